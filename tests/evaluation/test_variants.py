"""Variants: specifications as people write them, and networks at other sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import artefact
from models.preprocessing import Preprocessing
from models.runtimes.onnxruntime import OnnxEmbedder
from service.evaluation.variants import Variant, VariantRefused, parse, reshaped, trial
from service.settings import load_settings


def test_specifications_multiply_and_repeat_nothing() -> None:
    found = parse(["side=224, 288+crop=squash", "threshold=0.5", "threshold=.5", "model=efficientnet-lite2"])
    assert [each.name for each in found] == [
        "side 224 + crop squash",
        "side 288 + crop squash",
        "threshold 0.5",
        "model efficientnet-lite2",
    ]
    assert [each.embeds for each in found] == [True, True, False, True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("side", "say model"),
        ("size=3", "say model"),
        ("side=12", "whole number from 64"),
        ("side=22x", "whole number"),
        ("threshold=2", "from -1 to 1"),
        ("threshold=nan", "from -1 to 1"),
        ("crop=middle", "crop, squash, pad"),
        ("model=vgg", "resnet50"),
        ("side=224+side=288", "side=a,b"),
        ("side=" + ",".join(map(str, range(64, 90))), "at most 24"),
    ],
)
def test_what_is_no_variant_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(VariantRefused, match=words):
        parse([text])


def test_a_crop_keeps_its_share_and_the_others_show_all() -> None:
    usual = Preprocessing()
    assert reshaped(usual, Variant(side=320)) == replace(usual, side=320, short_side=366)
    assert reshaped(usual, Variant(crop="squash")) == replace(usual, short_side=224, rule="squash")
    assert reshaped(usual, Variant(side=288, crop="pad")) == replace(usual, side=288, short_side=288, rule="pad")


def test_a_network_takes_pictures_of_another_size(tmp_path: Path, model_dir: Path) -> None:
    settings, _ = load_settings(data_dir=tmp_path, model_dir=model_dir)
    base = artefact.find(model_dir, model="resnet50", precision="int8")
    chosen = trial(settings, base, Variant(side=96), tmp_path)
    assert chosen.artefact.fingerprint != base.fingerprint
    small = OnnxEmbedder(chosen.artefact, threads=1)
    rows = small.embed(np.random.default_rng(1).integers(0, 256, (2, 96, 96, 3), np.uint8))
    assert rows.shape == (2, base.dim) and np.linalg.norm(rows, axis=1) == pytest.approx([1, 1], abs=1e-5)
    same = trial(settings, base, Variant(side=base.preprocessing.side), tmp_path)
    assert same.artefact.fingerprint == base.fingerprint
    squashed = trial(settings, base, Variant(crop="squash"), tmp_path)
    assert squashed.artefact.path == base.path and squashed.artefact.preprocessing.rule == "squash"
