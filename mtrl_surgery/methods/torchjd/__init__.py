"""Methods that TorchJD brings (`options.py`), and ours as TorchJD objects (`as_torchjd.py`).

TorchJD takes a second to import: only what makes its objects does so.
"""

from mtrl_surgery.methods.torchjd import options as options
