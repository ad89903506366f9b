"""Text, datasets and batches, all as NumPy arrays; nothing here knows a Tensor."""

from __future__ import annotations

from .batches import CursorBatches
from .loader import DataLoader, Dataset, Subset, TensorDataset, default_collate, random_split
from .text import ALPHABET, clean27, decode, encode, load_text

__all__ = [
    "ALPHABET",
    "CursorBatches",
    "DataLoader",
    "Dataset",
    "Subset",
    "TensorDataset",
    "clean27",
    "decode",
    "default_collate",
    "encode",
    "load_text",
    "random_split",
]
