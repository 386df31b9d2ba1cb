import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.errors import ConfigurationError
from consumers.pool.model_deployments import ModelPoolConfig, ModelPools, bind, check_room
from schemas.models import CaptionerParams, ModelsParams, NsfwModelParams, OpenAIChatParams

COMMIT = "0123456789" * 4
NSFW = NsfwModelParams(source="a/nsfw", revision=COMMIT)
CAPTIONER = CaptionerParams(source="a/captioner", revision=COMMIT)
BOTH = ModelsParams(nsfw=NSFW, captioner=CAPTIONER)


def pools(nsfw=None, captioner=None, replicas=1):
    return ModelPools(
        BOTH,
        {
            "nsfw": ModelPoolConfig(num_gpus=nsfw, num_replicas=replicas),
            "captioner": ModelPoolConfig(num_gpus=captioner),
        },
    )


def test_without_a_word_models_share_a_gpu_where_there_is_one_and_use_the_cpu_elsewhere():
    shares = [pools().gpus_per_replica(name, 1.0) for name in ("nsfw", "captioner")]
    assert 0 < sum(shares) <= 1
    check_room(pools(), [1.0])
    assert [pools().gpus_per_replica(name, 0.0) for name in ("nsfw", "captioner")] == [0, 0]
    check_room(pools(), [])


def test_models_on_a_server_or_kept_on_the_cpu_need_no_gpu():
    server = OpenAIChatParams(kind="openai_chat", model="m", base_url="http://127.0.0.1:1/v1")
    kept = ModelPools(
        ModelsParams(nsfw=NSFW.model_copy(update={"device": "cpu"}), captioner=server),
        {"nsfw": ModelPoolConfig(num_gpus=1), "captioner": ModelPoolConfig(num_gpus=1)},
    )
    check_room(kept, [])


@pytest.mark.parametrize(
    ("nsfw", "captioner", "replicas", "nodes"),
    [
        (0.6, 0.6, 1, [1.0]),
        # Two thirds are free, but no single GPU has more than one of them.
        (2 / 3, 2 / 3, 2, [2.0]),
        (2.0, 0.0, 1, [1.0, 1.0]),
    ],
)
def test_a_share_that_finds_no_place_is_refused(nsfw, captioner, replicas, nodes):
    with pytest.raises(ConfigurationError, match=r"asks for .* GPU.*no room for it.*lower pool\."):
        check_room(pools(nsfw, captioner, replicas), nodes)


def test_a_share_of_a_gpu_where_there_is_none_is_refused_with_the_way_to_the_cpu():
    with pytest.raises(ConfigurationError, match=r"asks for 0\.5 GPU, and Ray sees none; set pool\.nsfw\.gpus to 0"):
        check_room(pools(nsfw=0.5), [0.0])


@given(st.integers(1, 8), st.sampled_from([0.1, 0.25, 0.5, 1.0]), st.lists(st.integers(0, 4), max_size=3))
def test_equal_shares_find_a_place_exactly_while_there_are_slots(replicas, share, nodes):
    slots = sum(nodes) * round(1 / share)
    placed = ModelPools(ModelsParams(nsfw=NSFW), {"nsfw": ModelPoolConfig(num_gpus=share, num_replicas=replicas)})
    gpus = [float(count) for count in nodes]
    if replicas <= slots:
        check_room(placed, gpus)
    else:
        with pytest.raises(ConfigurationError):
            check_room(placed, gpus)


@pytest.mark.parametrize(
    "bad",
    [
        {"num_gpus": 1.5},
        {"num_gpus": -1},
        {"num_replicas": 0},
        {"max_replicas": 1, "num_replicas": 2},
        {"max_batch": 0},
    ],
)
def test_a_senseless_model_pool_is_refused(bad):
    with pytest.raises(ConfigurationError):
        ModelPoolConfig(**bad)


def test_settings_of_a_stage_become_those_of_its_deployment():
    config = ModelPoolConfig(
        num_replicas=2, max_replicas=6, max_batch=4, linger_s=0.5, num_gpus=0.5, num_cpus=3, resources={"A100": 0.1}
    )
    pools = ModelPools(BOTH, {"nsfw": config})
    bound = bind(pools, is_embedded=False, cluster_gpus=2.0, logging_config=None, board="b")
    nsfw, captioner = (bound[name]._bound_deployment for name in ("nsfw", "captioner"))
    assert (nsfw.name, captioner.name) == ("NsfwScorer", "Captioner")
    scaling = nsfw._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (2, 6, 8)
    assert nsfw.user_config == {"max_batch": 4, "linger_s": 0.5}
    options = nsfw.ray_actor_options
    assert (options["num_gpus"], options["num_cpus"], options["resources"]) == (0.5, 3, {"A100": 0.1})
    assert options["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "3"
    assert options["runtime_env"]["env_vars"]["MALLOC_ARENA_MAX"] == "2"
    assert captioner.num_replicas == 1
    assert captioner.ray_actor_options["num_gpus"] == 0.6
