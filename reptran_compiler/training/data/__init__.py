"""Images to train on, read from disk. Nothing is ever downloaded.

`read_dataset` recognises a folder of IDX files, CIFAR-10 as pickled or binary batches, a folder of class folders, and
an .npz file.
"""

from reptran_compiler.training.data.augmentation import Augmentation
from reptran_compiler.training.data.batches import Batch, evaluation_batches, plain_batches, training_batches
from reptran_compiler.training.data.dataset import Dataset, Normalisation
from reptran_compiler.training.data.drawing import Draw
from reptran_compiler.training.data.examples import Examples, Stored
from reptran_compiler.training.data.folders import Files
from reptran_compiler.training.data.reading import image_size, read_dataset

__all__ = [
    "Augmentation",
    "Batch",
    "Dataset",
    "Draw",
    "Examples",
    "Files",
    "Normalisation",
    "Stored",
    "evaluation_batches",
    "image_size",
    "plain_batches",
    "read_dataset",
    "training_batches",
]
