"""The tasks of every data set, in the order of a network's outputs (no torch import)."""

from __future__ import annotations

# In the order of list_attr_celeba.txt.
_ATTRIBUTES = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry
Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
Wearing_Necktie Young
"""

TASKS: dict[str, tuple[str, ...]] = {
    "nyuv2": ("segmentation", "depth", "normal"),
    "cityscapes": ("segmentation", "depth"),
    "celeba": tuple(_ATTRIBUTES.split()),
    "qm9": ("mu", "alpha", "homo", "lumo", "r2", "zpve", "u0_atom", "u298_atom", "h298_atom", "g298_atom", "cv"),
    "multidigits": ("left", "right"),
}
"""By the data set's name."""
