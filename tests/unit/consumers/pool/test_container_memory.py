import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.errors import ConfigurationError
from consumers.pool.container import MemoryLimit, memory_limit
from consumers.pool.memory_plan import (
    LEAST_WORKER_BYTES,
    MOST_WORKER_BYTES,
    SERVICE_BYTES,
    plan_workers,
    share_of_node,
)

GIB = 1 << 30
MACHINE_BYTES = 24 * GIB


def make_root(folder, cgroup, files):
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/meminfo").write_text(f"MemTotal:  {MACHINE_BYTES // 1024} kB\nMemFree: 1 kB\n")
    if cgroup is not None:
        (folder / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = folder / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        pytest.param("0::/\n", {"memory.max": 6 * GIB}, 6 * GIB, id="v2, a container"),
        pytest.param(
            "0::/pod/app\n", {"pod/app/memory.max": "max", "pod/memory.max": 4 * GIB}, 4 * GIB, id="v2, nested"
        ),
        pytest.param("0::/a/b\n", {"a/b/memory.max": 5 * GIB, "a/memory.max": 3 * GIB}, 3 * GIB, id="v2, less above"),
        pytest.param("0::/a/b\n", {"memory.max": 5 * GIB}, 5 * GIB, id="v2, a path of the host"),
        pytest.param("0::/../../x\n", {"memory.max": 5 * GIB}, 5 * GIB, id="v2, outside its namespace"),
        pytest.param("0::/\n", {"memory.max": "max"}, None, id="v2, no limit"),
        pytest.param("0::/\n", {}, None, id="v2, the root of the machine"),
        pytest.param(
            "4:memory:/docker/1\n0::/\n", {"memory/docker/1/memory.limit_in_bytes": 2 * GIB}, 2 * GIB, id="v1, nested"
        ),
        pytest.param(
            "4:cpu,memory:/x\n", {"memory/memory.limit_in_bytes": 2 * GIB}, 2 * GIB, id="v1, a path of the host"
        ),
        pytest.param("4:memory:/\n", {"memory/memory.limit_in_bytes": 9223372036854771712}, None, id="v1, no limit"),
        pytest.param(
            "4:memory:/a\n0::/b\n",
            {"memory/a/memory.limit_in_bytes": 3 * GIB, "unified/b/memory.max": 2 * GIB},
            2 * GIB,
            id="both",
        ),
        pytest.param("0::/\n", {"memory.max": 100 * GIB}, None, id="more than the machine has"),
        pytest.param(None, {}, None, id="no cgroups"),
    ],
)
def test_the_smallest_limit_counts(tmp_path, cgroup, files, expected):
    limit = memory_limit(make_root(tmp_path, cgroup, files))
    assert limit == (MemoryLimit(MACHINE_BYTES, False) if expected is None else MemoryLimit(expected, True))


def test_this_process_has_some_memory():
    assert memory_limit().num_bytes > 1 << 28


def plan(total, **given):
    settings = {"num_cpus": 4, "num_workers": None, "worker_bytes": None, "object_store_bytes": GIB // 2} | given
    return plan_workers(MemoryLimit(total, True), **settings)


@given(
    total=st.integers(4 * GIB, 1 << 40),
    num_cpus=st.integers(1, 256),
    object_store=st.integers(0, GIB),
    num_workers=st.none() | st.integers(1, 64),
    worker_bytes=st.none() | st.integers(LEAST_WORKER_BYTES, 8 * GIB),
)
def test_what_is_planned_fits_or_is_refused(total, num_cpus, object_store, num_workers, worker_bytes):
    settings = {"num_workers": num_workers, "worker_bytes": worker_bytes, "object_store_bytes": object_store}
    try:
        planned = plan_workers(MemoryLimit(total, True), num_cpus=num_cpus, **settings)
    except ConfigurationError:
        assert num_workers is not None or worker_bytes is not None
        return
    assert planned.num_workers * planned.worker_bytes + SERVICE_BYTES + object_store <= total
    assert planned.worker_bytes == worker_bytes or LEAST_WORKER_BYTES <= planned.worker_bytes <= MOST_WORKER_BYTES
    assert planned.num_workers == (num_workers or planned.num_workers)


def test_two_workers_in_the_pod_of_the_manifests():
    planned = plan(6 * GIB, num_workers=2)
    assert planned.num_workers == 2
    assert 2 * GIB < planned.worker_bytes < 2.2 * GIB


def test_a_machine_of_many_cores_and_little_memory_gets_fewer_workers():
    assert plan(6 * GIB, num_cpus=64).num_workers == 4


def test_what_was_set_and_does_not_fit_is_refused_with_figures():
    with pytest.raises(ConfigurationError, match=r"2 workers of 4\.0 GiB do not fit: the container has 6\.0 GiB"):
        plan(6 * GIB, num_workers=2, worker_bytes=4 * GIB)
    with pytest.raises(ConfigurationError, match=r"set pool\.replicas to 4 or less"):
        plan(6 * GIB, num_workers=8)


def test_on_a_machine_it_is_a_warning(caplog):
    settings = {"num_workers": 8, "worker_bytes": None, "object_store_bytes": 0}
    planned = plan_workers(MemoryLimit(6 * GIB, False), num_cpus=8, **settings)
    assert planned.num_workers == 8
    assert "this machine has 6.0 GiB" in caplog.text


def test_a_container_that_is_too_small_for_one_worker_gets_one_and_a_warning(caplog):
    assert plan(GIB).num_workers == 1
    assert "do not fit" in caplog.text


@pytest.mark.parametrize(
    ("wanted", "cpus", "node_cpus", "expected"),
    [(None, 1, 8, 1.5), (None, 8, 8, 4), (None, 1, 100, 1), (2, 1, 8, 2), (100, 1, 8, 12), (None, 0, 0, 4)],
)
def test_a_worker_of_a_cluster_gets_its_share_of_the_node(wanted, cpus, node_cpus, expected):
    limit = MemoryLimit(16 * GIB, True)
    wanted_bytes = None if wanted is None else wanted * GIB
    share = share_of_node(
        limit, wanted_bytes=wanted_bytes, object_store_bytes=3.0 * GIB, cpus=cpus, node_cpus=node_cpus
    )
    assert share == expected * GIB
