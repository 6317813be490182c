"""The supervised multi-task benchmarks: toy problems, NYUv2, Cityscapes, CelebA, QM9 and MultiDigits."""
