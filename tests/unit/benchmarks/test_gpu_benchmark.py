import json
import sys

import pytest
import torch

from benchmarks import gpu, gpu_decode
from consumers.media.decode import VideoDecoder
from consumers.stages.decoder import DecoderChoice
from tests.support.near_gpu import NearGpu


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, object]]:
    monkeypatch.setattr(sys, "argv", ["gpu", "--json", *options])
    gpu.main()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_small_models_run_through_every_case_and_print_no_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = run(monkeypatch, capsys, "--device", "cpu", "--small", "--seconds", "0.01", "--tokens", "2")
    assert {line["case"] for line in lines} == {"gpu", "gpu/nsfw", "gpu/aesthetic", "gpu/captioner", "gpu/together"}
    for line in lines:
        assert line["measured"] is False
        assert not [key for key in line if key.endswith(("_per_s", "_gpu_s", "percent")) or key in {"batching", "bf16"}]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_machine_without_a_gpu_measures_nothing_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = run(monkeypatch, capsys)
    assert line["measured"] is False
    assert "torch sees no GPU" in str(line["reason"])
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, "--device", "cpu")


def test_decoders_are_timed_on_the_same_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_decode, "_SIZES", {"tiny": (160, 96)})
    monkeypatch.setattr(gpu_decode, "_SHOTS", gpu_decode._SHOTS[:1])
    results = list(gpu_decode.compare(DecoderChoice((NearGpu().open, VideoDecoder), "nvdec")))
    assert [(result["case"], result["decoder"]) for result in results] == [
        ("gpu/decode/tiny", "cpu"),
        ("gpu/pass/tiny", "cpu"),
        ("gpu/decode/tiny", "nvdec"),
        ("gpu/pass/tiny", "nvdec"),
    ]
    assert all(result["video_s_per_s"] > 0 for result in results)
