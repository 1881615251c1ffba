"""The command `yuanjiao simulate`: a province by night, on a manual clock."""

from __future__ import annotations

import click

from manifests.errors import YuanjiaoError
from tools.cli_common import Call, command, command_options


@command(
    "用真实的计划程序和手动时钟模拟全省若干夜的同步",
    "Simulate a province's nights with the real planners on a manual clock",
)
@click.option("--edges", type=click.IntRange(1, 1000), default=158, show_default=True, help="边缘服务器数 Edges")
@click.option("--nights", type=click.IntRange(1, 60), default=7, show_default=True, help="夜数 Nights")
@click.option("--seed", type=int, default=1, show_default=True, help="随机种子，相同种子结果相同 Same seed, same table")
@click.option(
    "--uplink-mbit",
    type=click.IntRange(1, 100_000),
    default=500,
    show_default=True,
    help="源站出口带宽 The origin's own line, Mbit/s",
)
@click.option("--swarm/--no-swarm", default=True, help="同市边缘服务器互助 Edges of a city help each other")
@click.option(
    "--real",
    is_flag=True,
    help="改为实测：同市 12 台边缘服务器经本机限速线路同步（各自取、互助各一次），与模型对比，相差 20% 以内才算成功 "
    "Measure instead: 12 real edges of a city behind a shaped line, each alone and then helping each other, "
    "beside the model; fails beyond 20 %",
)
@command_options(reports=True)
def simulate(call: Call, edges: int, nights: int, seed: int, uplink_mbit: int, swarm: bool, real: bool) -> None:
    """Simulate a province's nights with the real planners on a manual clock."""
    if real:
        _real(call)
        return
    from tools.simulate.province import simulate as run
    from tools.simulate.scenario import Scenario
    from tools.simulate.table import print_simulation

    scenario = Scenario(edges, nights, seed, uplink_mbit * 125_000.0, swarm)
    print_simulation(run(scenario), call.output)


def _real(call: Call) -> None:
    from tools.simulate.real import TRIALS, run_real
    from tools.simulate.results import Agreements
    from tools.simulate.table import print_agreements

    runs = tuple(run_real(trial) for trial in TRIALS)
    found = Agreements(runs, all(one.agrees for one in runs))
    print_agreements(found, call.output)
    for one in runs:
        if not one.agrees:
            raise YuanjiaoError(
                f"model and measurement differ: bytes {one.bytes_ratio:.2f}, time {one.seconds_ratio:.2f}",
                zh=f"模型与实测不符：字节比 {one.bytes_ratio:.2f}，用时比 {one.seconds_ratio:.2f}",
                hint="run it again on an idle machine; if it stays so, the model no longer tells what the edges do",
                hint_zh="请在空闲的机器上重试；若依旧不符，说明模型已不能反映边缘服务器的实际行为",
            )


def register(cli: click.Group) -> None:
    """Add these commands to the program."""
    cli.add_command(simulate)
