"""Whole jobs of data frames under kill -9, as long as you like with FIREPOND_SOAK_MINUTES."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import psutil
import pytest

from tests.smallpond.core.plans import alive, wait_until

ROOT = Path(__file__).resolve().parents[3]
MINUTES = float(os.environ.get("FIREPOND_SOAK_MINUTES", "0.15"))
KILLS_MAX = 4

# Joins, aggregates, sorts and shuffles in many tasks, and one sink of each kind.
JOB = """
import sys
import smallpond
folder = sys.argv[1]
sp = smallpond.init(data_root=f"{folder}/root", job_id="0123456789abcdef0123456789abcdef",
                    job_time=1_700_000_000, lowering="exchange", npartitions=6, progress=False)
facts = sp.read_parquet(f"{folder}/facts/*.parquet")
names = sp.read_parquet(f"{folder}/names/*.parquet")
joined = facts.join(names, on="k")
joined.group_by("name").agg(n="count(*)", s="sum(v)").write_parquet(f"{folder}/out/sums")
facts.sort("v").write_csv(f"{folder}/out/sorted", mode="overwrite")
facts.random_shuffle().map("k, v, v % 7 as w").write_json(f"{folder}/out/mapped")
facts.write_parquet(f"{folder}/out/parts", partition_by="p")
sp.shutdown()
"""
QUERIES = {
    "sums": "select name, count(*) n, sum(v)::bigint s from facts join names using (k) group by 1",
    "sorted": "select * from facts",
    "mapped": "select k, v, v % 7 as w from facts",
    "parts": "select * from facts",
}
READERS = {
    "sums": "read_parquet('{}/*.parquet')",
    "sorted": "read_csv('{}/*.csv')",
    "mapped": "read_json('{}/*.json*')",
    "parts": "read_parquet('{}/*/*.parquet', hive_partitioning = true)",
}


def inputs_write(folder: Path) -> None:
    """Facts in several files, with a heavy key, and their names; a file that is there before."""
    for name in ("facts", "names", "out/sums"):
        (folder / name).mkdir(parents=True)
    with duckdb.connect() as connection:
        for number in range(6):
            connection.execute(
                "copy (select case when i % 3 = 0 then 7 else (i * 31) % 500 end as k, "
                f"i * 6 + {number} as v, i % 4 as p from range(5000) t(i)) "
                f"to '{folder}/facts/{number}.parquet'"
            )
        connection.execute(
            "copy (select i as k, 'name ' || i % 50 as name from range(500) t(i)) "
            f"to '{folder}/names/0.parquet'"
        )
        connection.execute(
            "copy (select 'from before' as name, 1::bigint as n, 2::bigint as s) "
            f"to '{folder}/out/sums/before.parquet'"
        )


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", JOB, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def kill(driver: subprocess.Popen[bytes], everything: bool) -> None:
    """The driver, or it and all that it started, at once; nobody is left a moment later."""
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    for process in family if everything else ():
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    driver.wait()
    wait_until(lambda: not any(alive(process.pid) for process in family))


def check(folder: Path) -> None:
    """Each output is there once."""
    with duckdb.connect() as connection:
        for name in ("facts", "names"):
            source = f"read_parquet('{folder}/{name}/*.parquet')"
            connection.execute(f"create view {name} as select * from {source}")
        for name, query in QUERIES.items():
            if name == "sums":
                query += " union all select 'from before', 1, 2"
            expected = connection.execute(f"select * from ({query}) order by all").fetchall()
            columns = ", ".join(one[0] for one in connection.description or ())
            reader = READERS[name].format(folder / "out" / name)
            found = connection.execute(f"select {columns} from {reader} order by all").fetchall()
            assert found == expected, f"{name}: {len(found)} rows, not {len(expected)}"


def one_round(folder: Path, generator: random.Random, whole_s: float) -> int:
    """A job that is killed and started again until it is let go on; how often it was killed."""
    inputs_write(folder)
    kills = 0
    for _ in range(generator.randint(1, KILLS_MAX)):
        driver = start(folder)
        try:
            driver.wait(generator.uniform(0.05, 1.1) * whole_s)
        except subprocess.TimeoutExpired:
            kill(driver, everything=generator.random() < 0.5)
            kills += 1
        else:
            assert driver.returncode == 0
    with start(folder) as driver:
        assert driver.wait(120) == 0
    check(folder)
    return kills


@pytest.mark.timeout(MINUTES * 60 * 3 + 300)
def test_killed_jobs_write_once(tmp_path: Path) -> None:
    """Goal: kill -9 of the driver, or of all processes, at any moment, costs time and nothing else.

    Method: kill at random moments, start the same script again, to the end; the seed is printed.
    Oracle: DuckDB on the same inputs: every row once in every output, what was in a folder before
    still there once, no process left.
    """
    seed = int(os.environ.get("FIREPOND_SOAK_SEED", str(random.randrange(1 << 30))))
    print(f"\nFIREPOND_SOAK_SEED={seed}")
    generator = random.Random(seed)
    folder = tmp_path / "whole"
    inputs_write(folder)
    begin = time.monotonic()
    with start(folder) as driver:
        assert driver.wait(120) == 0
    check(folder)
    whole_s = time.monotonic() - begin
    rounds, kills = 0, 0
    while time.monotonic() < begin + MINUTES * 60 or kills == 0:
        folder = tmp_path / f"round-{rounds}"
        kills += one_round(folder, generator, whole_s)
        rounds += 1
        shutil.rmtree(folder)
    print(f"{rounds} rounds, {kills} kills")
