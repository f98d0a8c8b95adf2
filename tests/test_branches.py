"""Which branch of a graph is the main one and which are bypasses; what neither covers is refused by name."""

from __future__ import annotations

import pytest
from concat_nets import chains, concat, dense, pairs
from hls_cases import NetBuilder
from residual_nets import PAD, add

from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.hardware.plan import AddStage, ConcatStage, ConvStage, ExpandStage, JoinStage, PoolStage
from fpga_squeeze.hardware.structure import build_skeleton
from fpga_squeeze.quantize.qgraph import QConcat, QNode, QuantGraph


def joins(qgraph: QuantGraph) -> dict[str, tuple[str, tuple[str, ...], bool]]:
    """Join -> (tensor that is forked off, stages on the bypass, whether the main branch is the first operand)."""
    found = {}
    for s in build_skeleton(qgraph).stages:
        if isinstance(s, JoinStage):
            found[s.name] = (s.bypass, tuple(own.name for own in s.side), qgraph[s.node].inputs[0] != (s.side[-1].name if s.side else s.bypass))
            assert not isinstance(s, ConcatStage) or s.main_first == found[s.name][2]
    return found


def start(channels: int = 4, size: int = 8) -> tuple[NetBuilder, str]:
    net = NetBuilder(1)
    return net, net.conv("conv1", net.image(3, size, size), channels, 1)


def test_an_earlier_tensor_is_the_bypass_whichever_operand_it_is() -> None:
    assert joins(dense()) == {"d1.cat": ("conv1", (), False), "d2.cat": ("d1.cat", (), True)}
    second = next(s for s in build_skeleton(dense()).stages if s.name == "d2.cat")
    assert isinstance(second, ConcatStage) and (second.in_shape[0], second.side_shape[0], second.out_shape) == (7, 8, (15, 10, 10))


def test_of_two_convolutions_the_one_that_looks_further_ahead_is_the_main_branch() -> None:
    assert joins(pairs()) == {"p1.cat": ("conv1", ("p1.one",), False), "p2.cat": ("p1.cat", ("p2.one",), True), "p3.cat": ("p2.cat", ("p3.b",), True)}


def test_pools_and_chains_lie_on_a_bypass_where_the_other_branch_looks_further() -> None:
    found = joins(chains())
    assert found == {
        "i1.cat": ("conv1", ("i1.pool", "i1.project"), False),
        "down.cat": ("i1.cat", ("down.pool",), True),
        "s.add": ("down.cat", ("s.b1", "s.b2"), False),
    }
    net, x = start()
    y = add(net, "sum", net.conv("b", x, 4, 1), net.pool("pool", x, 3, 1, PAD))
    stages = build_skeleton(net.finish(y)).stages
    assert [type(s) for s in stages[1:3]] == [PoolStage, AddStage], "the pool needs a row ahead, the 1x1 convolution nothing"
    assert joins(QuantGraph(tuple(net.nodes), "pool10")) == {"sum": ("conv1", ("b",), False)}


def test_a_fire_stays_one_stage_and_its_mirror_image_becomes_a_join() -> None:
    net, x = start()
    stages = build_skeleton(net.finish(net.fire("fire2", x, 2, 4, 4))).stages
    assert [type(s) for s in stages[1:3]] == [ConvStage, ExpandStage]
    net, x = start()
    y = concat(net, "cat", net.conv("three", x, 4, 3, padding=PAD), net.conv("one", x, 4, 1))
    assert joins(net.finish(y)) == {"cat": ("conv1", ("one",), True)}


def test_a_bypass_may_end_behind_a_concat_and_begin_inside_another() -> None:
    """DenseNet's growth: every join reads tensors of the main branch only."""
    net, x = start()
    a = net.conv("a", x, 4, 3, padding=PAD)
    y = concat(net, "cat1", x, a)
    b = net.conv("b", y, 4, 3, padding=PAD)
    z = concat(net, "cat2", y, b)
    total = add(net, "sum", net.conv("c", z, 4, 1), a)
    assert joins(net.finish(total)) == {"cat1": ("conv1", (), False), "sum": ("a", (), True), "cat2": ("cat1", (), False)}


def refused(net: NetBuilder, source: str) -> str:
    with pytest.raises(InputError) as caught:
        build_skeleton(net.finish(net.conv("conv10", source, 3, 1)))
    return str(caught.value)


def test_what_no_machine_covers_is_refused_by_name_and_reason() -> None:
    net, x = start()
    assert "layer twice: concatenates conv1 with itself" in refused(net, concat(net, "twice", x, x))
    # Both branches fork themselves: neither is a bypass.
    net, x = start()
    left = add(net, "left", net.conv("l1", x, 4, 1), net.conv("l2", x, 4, 3, padding=PAD))
    one, other = net.conv("o1", left, 4, 1), net.conv("o2", left, 4, 1)
    inner = [add(net, f"{n}.add", net.conv(f"{n}.c", t, 4, 3, padding=PAD), t) for n, t in (("p", one), ("q", other))]
    message = refused(net, add(net, "sum", *inner))
    assert message.startswith("layer left: read by o1, o2; besides one main branch") and "convolutions and max pools that nothing else reads" in message
    # Three tensors at once.
    net, x = start()
    parts = [net.conv(f"c{i}", x, 2, 1) for i in range(3)]
    net.nodes.append(QNode("three", QConcat(), tuple(parts), (6, 8, 8), net._node(parts[0]).fmt))
    assert "layer three: concatenates 3 tensors" in refused(net, "three")
    # A layer that feeds nothing.
    net, x = start()
    net.conv("lost", x, 4, 1)
    assert "layer conv1: read by lost, conv10" in refused(net, x)


def test_a_bypass_that_needs_more_than_the_only_main_branch_is_refused_where_it_ends() -> None:
    """The main branch forks itself, so it cannot be the bypass; of 1x1 convolutions only, it is no row ahead."""
    net, x = start()
    y = net.conv("m1", x, 4, 1)
    main = add(net, "inner", net.conv("m2", y, 4, 1), y)
    qgraph = net.finish(net.conv("conv10", add(net, "sum", main, net.conv("wide", x, 4, 3, padding=PAD)), 3, 1))
    with pytest.raises(InputError, match="stage sum: bypass sum_bypass must not need more of conv1 for a sum than the main branch does"):
        plan_machine(qgraph, 200.0, 100_000.0)
