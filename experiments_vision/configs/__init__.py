"""The hydra files of the commands; packages, so that an installed copy finds them."""
