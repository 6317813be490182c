"""Videos of a policy: rendering without a screen, frames with labels, MP4 and GIF files, and the mosaic."""
