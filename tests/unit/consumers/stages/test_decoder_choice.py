import ctypes
import io
from functools import partial

import pytest

from consumers.clock import Deadline, SystemClock
from consumers.errors import ConfigurationError
from consumers.media.decode import VideoDecoder
from consumers.media.nvdec import NvdecUnavailableError, count_gpus
from consumers.stages.decoder import choose
from consumers.stages.decoder_probe import damage, make_samples
from schemas.profile import Limits
from tests.support.near_gpu import BlindDecoder, FailingDecoder, MiscutDecoder, NearGpu


def test_machine_without_a_driver_decodes_on_the_cpu_and_says_why() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        choice = choose("auto")
        assert choice.ways == (VideoDecoder,)
        assert choice.summary == "cpu (no NVIDIA driver was found (libcuda.so.1))"
        with pytest.raises(
            ConfigurationError, match=r'"nvdec", but .* no NVIDIA driver was found .*; set pool\.decoder'
        ):
            choose("nvdec")
    else:
        pytest.skip("this machine has an NVIDIA driver")


def test_asked_for_the_cpu_no_gpu_is_looked_for() -> None:
    def connect() -> NearGpu:
        raise AssertionError("the GPU was touched")

    assert choose("cpu", connect).summary == 'cpu (pool.decoder = "cpu")'


class Driver:
    """A driver library whose functions return what they are told to."""

    def __init__(self, status: int, gpus: int) -> None:
        self._status, self._gpus = status, gpus

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's own name
        return self._status

    def cuDeviceGetCount(self, count: object) -> int:  # noqa: N802
        count._obj.value = self._gpus  # type: ignore[attr-defined]
        return 0


@pytest.mark.parametrize(
    ("libraries", "reason"),
    [
        ({}, "no NVIDIA driver was found"),
        ({"libcuda.so.1": Driver(100, 0)}, "shows this process no GPU"),
        ({"libcuda.so.1": Driver(0, 0)}, "shows this process no GPU"),
        ({"libcuda.so.1": Driver(803, 0)}, r"does not start \(CUDA error 803\)"),
        ({"libcuda.so.1": Driver(0, 2)}, "add video to NVIDIA_DRIVER_CAPABILITIES"),
    ],
)
def test_what_is_missing_of_the_driver_is_named(libraries: dict[str, Driver], reason: str) -> None:
    def load(name: str) -> Driver:
        if name not in libraries:
            raise OSError(f"{name}: cannot open shared object file")
        return libraries[name]

    with pytest.raises(NvdecUnavailableError, match=reason):
        count_gpus(load)


def test_whole_driver_gives_the_number_of_gpus() -> None:
    libraries = {"libcuda.so.1": Driver(0, 2), "libnvcuvid.so.1": Driver(0, 0)}
    assert count_gpus(libraries.__getitem__) == 2


def test_decoder_without_a_difference_is_used_for_every_codec_of_the_probe() -> None:
    choice = choose("auto", NearGpu)
    assert choice.summary == "nvdec for h264, hevc, vp9, cpu for others"
    assert len(choice.ways) == 2


def test_codec_with_one_cut_more_than_on_the_cpu_stays_on_the_cpu() -> None:
    choice = choose("nvdec", partial(NearGpu, MiscutDecoder))
    assert (
        choice.summary
        == "nvdec for hevc, vp9, cpu for others (h264: it cuts at frames [0, 18, 33], the CPU at [0, 18])"
    )


def test_decoder_that_fails_is_not_used_and_the_worker_survives_it() -> None:
    choice = choose("auto", partial(NearGpu, FailingDecoder))
    assert choice.ways == (VideoDecoder,)
    assert choice.summary == (
        "cpu (h264: decoding failed: out of memory; hevc: RuntimeError: illegal memory access; "
        "vp9: decoding failed: out of memory)"
    )
    with pytest.raises(ConfigurationError, match="hevc: RuntimeError: illegal memory access"):
        choose("nvdec", partial(NearGpu, FailingDecoder))


def test_decoder_that_does_not_notice_damage_is_used_only_where_a_person_asks_for_it() -> None:
    connect = partial(NearGpu, BlindDecoder)
    assert "h264: it does not notice damaged pictures" in choose("auto", connect).summary
    assert "nvdec for h264" in choose("nvdec", connect).summary


def test_damaged_sample_is_one_that_the_cpu_finds_damaged() -> None:
    whole = make_samples("h264")[0]
    for video, is_damaged in ((whole, False), (damage(whole), True)):
        decoder = VideoDecoder(io.BytesIO(video), Limits(), Deadline(SystemClock(), 60))
        num_frames = sum(1 for _ in decoder.frames())
        assert num_frames == 36
        assert (decoder.num_damaged > 0) == is_damaged
