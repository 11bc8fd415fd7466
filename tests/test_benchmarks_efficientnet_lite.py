import numpy as np
import pytest
import torch

from benchmarks.selection import efficientnet_lite
from tests.comparison import close

PARAMETERS = {"efficientnet-lite0": 4_652_008, "efficientnet-lite1": 5_416_680, "efficientnet-lite2": 6_092_072}
"""As counted for the models that were published."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_architecture_has_the_published_size(name):
    with torch.device("meta"):
        model = efficientnet_lite.architecture(name)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(("size", "kernel", "stride"), [(6, 3, 2), (7, 3, 2), (8, 5, 2), (1, 5, 2), (5, 3, 1)])
def test_a_convolution_is_padded_as_in_tensorflow(size, kernel, stride):
    layer = efficientnet_lite.Convolution(1, 1, kernel, stride, bias=False).double()
    image, weight = torch.randn(size, size, dtype=torch.float64).numpy(), layer.weight.detach()[0, 0].numpy()
    places = -(-size // stride)  # one for each stride that begins within the image
    before = max((places - 1) * stride + kernel - size, 0) // 2
    expected = np.zeros((places, places))
    for i, j in np.ndindex(places, places):
        for a, b in np.ndindex(kernel, kernel):
            row, column = i * stride + a - before, j * stride + b - before
            if 0 <= row < size and 0 <= column < size:
                expected[i, j] += weight[a, b] * image[row, column]
    close(layer(torch.from_numpy(image)[None, None])[0, 0].detach(), torch.from_numpy(expected))


def test_weights_are_read_in_their_order(monkeypatch, tmp_path):
    made = efficientnet_lite.architecture("efficientnet-lite0").eval()
    renamed = {f"layer{k}.{name.split('.')[-1]}": value for k, (name, value) in enumerate(made.state_dict().items())}
    torch.save(renamed, tmp_path / "weights.pth")
    monkeypatch.setattr(efficientnet_lite, "weights_path", lambda name: tmp_path / "weights.pth")
    body, classifier = efficientnet_lite.published("efficientnet-lite0", 32).eval()
    images = torch.randn(2, 3, 8, 8)
    enlarged = torch.nn.functional.interpolate(images, (32, 32), mode="bilinear") / 2
    torch.testing.assert_close(classifier(body(images)), made(enlarged), rtol=1e-3, atol=1e-5)
    with pytest.raises((AssertionError, ValueError)):
        efficientnet_lite.published("efficientnet-lite1", 32)


def test_weights_of_a_package_that_is_not_installed():
    assert efficientnet_lite.weights_path("no-such-network") is None
