"""A small LeNet for MultiDigits, after the two-headed one of Sener and Koltun (NeurIPS 2018, arXiv 1810.04650)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from experiments_vision.contract import MultiTaskModel, Outputs, VisionError

DIGITS = 10


class LeNet(MultiTaskModel):
    """Two convolutions and a linear layer are shared; a task adds two linear layers. The features are 50 numbers.

    Outputs: logits [B, 10] a task, for cross entropy. There is no dropout: nothing but the weights is random.

    Args:
        tasks: The digits' names, such as left and right.
        size: The images' side in pixels, 4 at least.

    Raises:
        VisionError: for no task or a smaller size; in `forward`, for images of another size.
    """

    def __init__(self, tasks: Sequence[str], size: int) -> None:
        super().__init__(tasks)
        if size < 4:
            raise VisionError(f"size={size}: the images are halved twice, so their side must be 4 pixels at least")
        self.size = size
        self.trunk = nn.Sequential(
            *(nn.Conv2d(1, 10, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
            *(nn.Conv2d(10, 20, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
            *(nn.Flatten(), nn.Linear(20 * (size // 4) ** 2, 50), nn.ReLU(inplace=True)),
        )
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(50, 50), nn.ReLU(inplace=True), nn.Linear(50, DIGITS)) for _ in self.tasks
        )

    def forward(self, inputs: Tensor) -> Outputs:
        """Logits for images [B, 1, size, size]."""
        if inputs.ndim != 4 or tuple(inputs.shape[1:]) != (1, self.size, self.size):
            raise VisionError(f"images of shape {tuple(inputs.shape)}: expected [batch, 1, {self.size}, {self.size}]")
        last: Tensor = self.trunk(inputs)
        return Outputs([head(last) for head in self.heads], (last,))
