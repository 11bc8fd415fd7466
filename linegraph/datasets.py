"""Small data sets of real measurements that need no download."""

from __future__ import annotations

import torch
from torch import Tensor

from linegraph.arguments import as_real, check_seed
from linegraph.errors import DataError

__all__ = ["digits"]

Pair = tuple[Tensor, Tensor]


def digits(*, valid_fraction: float = 0.25, seed: int = 0) -> tuple[Pair, Pair]:
    """The 1,797 handwritten digits of 8×8 pixels that come with scikit-learn, as (train, valid).

    The split is stratified by class.

    Args:
        valid_fraction: fraction of the images in the second pair, in (0, 1).
        seed: seed of the split, on which nothing else depends.

    Returns:
        Two pairs ``(images, labels)``: images float32 (N, 1, 8, 8), standardised by the mean and the standard deviation
        of the training pixels (units of grey level), and labels int64 (N,), the digits 0 to 9.

    Raises:
        DataError: if ``valid_fraction`` is not between 0 and 1, or leaves fewer images than classes on one side; if
            ``seed`` is no integer ≥ 0.

    Cost: well below a second.

    Source: E. Alpaydin, C. Kaynak, Cascading classifiers, Kybernetika (1998); the test set of their digits at UCI.

    Example:
        >>> import linegraph as lg
        >>> (images, labels), valid = lg.datasets.digits()
        >>> images.shape, valid[1].shape
        (torch.Size([1347, 1, 8, 8]), torch.Size([450]))
    """
    if not 0 < as_real("valid_fraction", valid_fraction) < 1:
        raise DataError(f"valid_fraction must be above 0 and below 1, got {valid_fraction}")
    check_seed(seed)
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    try:
        parts = train_test_split(images, labels, test_size=valid_fraction, random_state=seed, stratify=labels)
    except ValueError as error:  # fewer images than classes on one side
        raise DataError(f"valid_fraction={valid_fraction} leaves too few images on one side: {error}") from None
    train_x, valid_x, train_y, valid_y = parts
    mean, deviation = train_x.mean(), train_x.std()

    def pair(x: object, y: object) -> Pair:
        pixels = (torch.as_tensor(x, dtype=torch.float32) - mean) / deviation
        return pixels.view(-1, 1, 8, 8), torch.as_tensor(y, dtype=torch.int64)

    return pair(train_x, train_y), pair(valid_x, valid_y)
