"""Models of PyTorch and scikit-learn, converted, served and asked: the server gives their own probabilities."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.model_file.spec import PrepareSpec, self_test_images
from tests.train.export.foreign.asked import Ask, Images, draw, softmax
from train.commands.converting.command import SYNTHETIC_SEED, main

torch = pytest.importorskip("torch", reason="needs PyTorch, of the extra [test-convert]")
nn = torch.nn
pytestmark = pytest.mark.slow

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = ["--scale", "1/255", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]


def normalize(images: Images) -> Any:
    """Scale as torchvision's ToTensor and Normalize do."""
    values = (images.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))


def export(net: Any, path: Path, example: Any, *, free: bool = True, new: bool = False) -> Path:
    """Write a net as PyTorch's two exporters do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside of PyTorch
        if new:
            shapes = ({0: torch.export.Dim("batch")},) if free else None
            torch.onnx.export(net, (example,), path, dynamic_shapes=shapes, dynamo=True, verbose=False)
        else:
            axes = {"pixel_values": {0: "batch"}, "logits": {0: "batch"}} if free else None
            names = {"input_names": ["pixel_values"], "output_names": ["logits"]}
            torch.onnx.export(net, (example,), path, dynamic_axes=axes, dynamo=False, **names)
    return path


def run(net: Any, values: Any) -> Any:
    with torch.no_grad():
        return net(values).double().numpy()


def make_net(classes: int = 5) -> Any:
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(*parts, nn.Linear(8, classes)).eval()
    net[-1].weight.data *= 20
    return net


@pytest.mark.parametrize("new", [False, True], ids=["the old exporter", "the new exporter"])
@pytest.mark.parametrize("free", [True, False], ids=["free batch", "fixed batch"])
def test_a_net_of_pytorch(free: bool, new: bool, ask: Ask, tmp_path: Path) -> None:
    """Channels first, with mean and deviation in front. The new exporter writes weights beside the file."""
    net, images = make_net(), draw((40, 32, 3))
    path = export(net, tmp_path / "net.onnx", normalize(images[:1]), free=free, new=new)
    spec = ask(path, images, softmax(run(net, normalize(images))), *IMAGENET)
    assert spec.input.shape == (40, 32, 3)
    assert ("the batch, fixed at 1, was made free" in spec.recipe["conversion"]) is not free


class Attention(nn.Module):
    """A vision transformer in the form of Hugging Face's: patches, a class token, positions, two layers."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, 24))
        self.places = nn.Parameter(torch.randn(1, 17, 24))
        parts = {"nhead": 2, "dim_feedforward": 48, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(24, **parts) for _ in range(2))
        self.classifier = nn.Linear(24, classes)

    def forward(self, pixel_values: Any) -> Any:
        """Float [N, 3, 32, 32] -> logits [N, K]."""
        values = self.patches(pixel_values).flatten(2).transpose(1, 2)
        values = torch.cat([self.token.expand(values.shape[0], -1, -1), values], dim=1) + self.places
        for layer in self.layers:
            values = layer(values)
        return self.classifier(values[:, 0])


def make_attention() -> Any:
    torch.manual_seed(0)
    net = Attention(6).eval()
    net.classifier.weight.data *= 8
    return net


def test_a_vision_transformer_with_the_labels_of_its_config(ask: Ask, tmp_path: Path) -> None:
    net, images = make_attention(), draw((32, 32, 3))
    path = export(net, tmp_path / "vit.onnx", normalize(images[:2]))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {str(index): f"kind {index}" for index in range(6)}}))
    out = tmp_path / "others"
    flags = ["--labels", str(tmp_path / "config.json"), "--out", str(out), "--resize", "0", *IMAGENET]
    assert main([str(path), "--name", "vit", *flags]) == 0
    spec = ask(path, images, softmax(run(net, normalize(images))), "--resize", "0", *IMAGENET)
    squashed = {"resize": 0, "crop": False, "interpolation": "bilinear", "antialias": True}
    assert spec.prepare == PrepareSpec("photo", 3, squashed)


def test_a_batch_that_is_fixed_inside_is_refused_with_what_to_do(refuse: Callable[..., str], tmp_path: Path) -> None:
    """A class token that was repeated for two images cannot be repeated for others."""
    net = make_attention()
    path = export(net, tmp_path / "vit.onnx", normalize(draw((32, 32, 3))[:2]), free=False)
    sentence = refuse(path, 6, *IMAGENET)
    assert "fixed at 2" in sentence
    assert 'dynamic_axes={"images": {0: "batch"}}' in sentence


def test_a_net_in_training_mode_is_refused(refuse: Callable[..., str], tmp_path: Path) -> None:
    net, images = make_net(), draw((32, 32, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.train(),
            (normalize(images[:2]),),
            tmp_path / "net.onnx",
            dynamo=False,
            training=torch.onnx.TrainingMode.TRAINING,
            input_names=["images"],
            dynamic_axes={"images": {0: "batch"}},
        )
    assert "Call eval() before the export" in refuse(tmp_path / "net.onnx", 5, *IMAGENET)


def test_a_net_of_float16(ask: Ask, tmp_path: Path) -> None:
    """Its file computes as it was exported: 16 bits inside, probabilities of 32 bits."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4)).eval().half()
    images = draw((32, 32, 3))
    halves = torch.from_numpy(np.ascontiguousarray((images / np.float32(255)).transpose(0, 3, 1, 2))).half()
    path = export(net, tmp_path / "half.onnx", halves[:1])
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = softmax(session.run(None, {"pixel_values": halves.numpy()})[0])
    assert ask(path, images, expected, "--scale", "1/255").precision == "float16"


class Bottleneck(nn.Module):
    """A block of ResNet-50, in the shape of torchvision's."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        outside = 4 * width
        self.way = nn.Sequential(
            *(nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, outside, 1, bias=False), nn.BatchNorm2d(outside)),
        )
        is_same = inside == outside and stride == 1
        short = [nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)]
        self.short = nn.Identity() if is_same else nn.Sequential(*short)

    def forward(self, values: Any) -> Any:
        """Float [N, C, H, W] -> [N, 4 x width, H', W']."""
        return torch.relu(self.way(values) + self.short(values))


def make_resnet50(classes: int = 1000) -> Any:
    """A net of the shape and size of torchvision's ResNet-50, with random weights."""
    torch.manual_seed(0)
    parts: list[Any] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for index in range(count):
            parts.append(Bottleneck(inside, width, stride if index == 0 else 1))
            inside = 4 * width
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes)).eval()


def test_a_resnet_50_of_torchvisions_shape(ask: Ask, tmp_path: Path) -> None:
    """224 x 224 pixels, a thousand classes, 102 MB; its norms know the images."""
    net, images = make_resnet50(), draw((224, 224, 3), 4)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        net.train()(normalize(np.concatenate([images, self_test_images(SYNTHETIC_SEED, 8, (224, 224, 3))])))
    net.eval()[-1].weight.data *= 20
    path = export(net, tmp_path / "resnet50.onnx", normalize(images[:1]))
    spec = ask(path, images, softmax(run(net, normalize(images))), *IMAGENET)
    assert (spec.class_count, spec.parameters > 25_000_000) == (1000, True)


@pytest.mark.parametrize("name", ["LogisticRegression", "RandomForestClassifier"])
def test_a_classifier_of_scikit_learn_on_rows_of_pixels(name: str, ask: Ask, tmp_path: Path) -> None:
    """As skl2onnx writes it: a label, and a list of dictionaries of probabilities."""
    skl2onnx = pytest.importorskip("skl2onnx", reason="needs skl2onnx, of the extra [test-convert]")
    from sklearn import ensemble, linear_model

    kinds = {"LogisticRegression": linear_model.LogisticRegression(max_iter=300), "RandomForestClassifier": None}
    classifier = kinds[name] or ensemble.RandomForestClassifier(10, random_state=0)
    shape = (8, 8, 1)
    images = draw(shape, 60)
    rows = images.reshape(len(images), -1) / np.float32(255)
    classifier.fit(rows, np.arange(len(images)) % 3)
    graph = skl2onnx.to_onnx(classifier, rows[:1])
    (tmp_path / "digits.onnx").write_bytes(graph.SerializeToString())
    spec = ask(tmp_path / "digits.onnx", images[:6], classifier.predict_proba(rows[:6]), "--scale", "1/255")
    assert spec.input.shape == shape
    assert any("a list of dictionaries opened" in step for step in spec.recipe["conversion"])


def test_weights_of_pytorch_without_their_net_are_refused(refuse: Callable[..., str], tmp_path: Path) -> None:
    torch.save(make_net().state_dict(), tmp_path / "net.pt")
    assert "torch.onnx.export" in refuse(tmp_path / "net.pt", 5)
