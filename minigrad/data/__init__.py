"""Text, images, tables and batches, all as NumPy arrays; nothing here knows a Tensor."""

from __future__ import annotations

from .batches import CursorBatches, SequenceBatches
from .buckets import BucketBatches, Padded, Padding, pad
from .endless import Endless
from .loader import DataLoader, Dataset, Subset, TensorDataset, default_collate, random_split
from .mnist import MNIST, download_mnist, load_mnist
from .pipeline import Pipeline
from .tables import Digits, Iris, load_digits, load_iris
from .text import ALPHABET, clean27, decode, encode, load_text
from .words import Corpus, load_ptb, load_words

__all__ = [
    "ALPHABET",
    "MNIST",
    "BucketBatches",
    "Corpus",
    "CursorBatches",
    "DataLoader",
    "Dataset",
    "Digits",
    "Endless",
    "Iris",
    "Padded",
    "Padding",
    "Pipeline",
    "SequenceBatches",
    "Subset",
    "TensorDataset",
    "clean27",
    "decode",
    "default_collate",
    "download_mnist",
    "encode",
    "load_digits",
    "load_iris",
    "load_mnist",
    "load_ptb",
    "load_text",
    "load_words",
    "pad",
    "random_split",
]
