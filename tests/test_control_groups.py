"""The limits of containers and batch systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from bts_auto import control_groups


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lets /sys/fs/cgroup hold some files, and the process be in some groups."""

    def make(own: str, files: dict[str, object]) -> None:
        root = tmp_path / "cgroup"
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"{content}\n")
        (tmp_path / "own").write_text(own)
        monkeypatch.setattr(control_groups, "_ROOT", root)
        monkeypatch.setattr(control_groups, "_OWN", tmp_path / "own")

    return make


STAT = "anon 1500\nfile 4500\ninactive_file 4000\nactive_file 500"


@pytest.mark.parametrize(("limit", "free"), [("7000", 7000 - (6000 - 4500)), ("max", None)])
def test_files_that_a_container_has_read_are_no_hindrance(groups, limit: str, free: int | None):
    groups("0::/\n", {"memory.max": limit, "memory.current": 6000, "memory.stat": STAT})
    assert control_groups.free_memory() == free


def test_limits_of_outer_groups_hold_too(groups):
    inner = {"job/step/memory.max": 5000, "job/step/memory.current": 100}
    groups("0::/job/step\n", inner | {"job/memory.max": 3000, "job/memory.current": 1000})
    assert control_groups.free_memory() == 2000


def test_groups_of_others_do_not_count(groups):
    groups("0::/job/step\n", {"job/other/memory.max": 10, "job/other/memory.current": 5})
    assert control_groups.free_memory() is None


def test_version_1_tells_the_same(groups):
    folder = "memory/slurm/job_7"
    files = {"memory.limit_in_bytes": 9000, "memory.usage_in_bytes": 8000}
    stat = {f"{folder}/memory.stat": "inactive_file 1\ntotal_inactive_file 600\ntotal_active_file 400"}
    groups("4:memory:/slurm/job_7\n1:cpu:/\n", {f"{folder}/{name}": n for name, n in files.items()} | stat)
    assert control_groups.free_memory() == 2000


def test_inside_a_container_the_path_of_the_host_leads_nowhere(groups):
    own = {"memory/memory.limit_in_bytes": 500, "memory/memory.usage_in_bytes": 200}
    groups("4:memory:/docker/abc\n", own)
    assert control_groups.free_memory() == 300


def test_more_than_is_allowed_leaves_nothing(groups):
    groups("0::/\n", {"memory.max": 100, "memory.current": 200})
    assert control_groups.free_memory() == 0


@pytest.mark.parametrize(
    ("own", "files", "cores", "used"),
    [
        ("0::/a\n", {"a/cpu.max": "150000 100000", "a/cpu.stat": "usage_usec 2500000\nuser_usec 1"}, 1.5, 2.5),
        (
            "1:cpuacct,cpu:/\n",
            {"cpu/cpu.cfs_quota_us": 50000, "cpu/cpu.cfs_period_us": 100000, "cpu/cpuacct.usage": 3 * 10**9},
            0.5,
            3.0,
        ),
    ],
)
def test_a_quota_of_processor_time(groups, own: str, files: dict, cores: float, used: float):
    groups(own, files)
    quota = control_groups.cpu_quota()
    assert quota is not None
    assert (quota.cores, quota.used_seconds()) == (cores, used)


@pytest.mark.parametrize(
    "files", [{"cpu.max": "max 100000"}, {"cpu/cpu.cfs_quota_us": -1, "cpu/cpu.cfs_period_us": 100000}, {}]
)
def test_no_quota(groups, files: dict):
    groups("1:cpu:/\n0::/\n", files)
    assert control_groups.cpu_quota() is None
