"""Which branch of a graph is the main one and which are bypasses; what no chain covers is every layer a stage of its own; what is no network, refused."""

from __future__ import annotations

import pytest
from concat_nets import chains, concat, dense, pairs
from hls_cases import NetBuilder
from residual_nets import PAD, add

from fpga_squeeze.errors import InputError, NotAheadError
from fpga_squeeze.fixed_point import TensorFormat
from fpga_squeeze.hardware.chain import cheapest_chain
from fpga_squeeze.hardware.folding import plan_machine
from fpga_squeeze.hardware.links import assemble
from fpga_squeeze.hardware.plan import AddStage, ConcatStage, ConvStage, ExpandStage, JoinStage, PoolStage
from fpga_squeeze.hardware.structure import build_skeleton, chain_skeleton
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


def general(net: NetBuilder, source: str, reason: str) -> dict[str, str]:
    """Stage -> tensor that it reads first, of a network that is no chain, for `reason`."""
    qgraph = net.finish(net.conv("conv10", source, 3, 1))
    with pytest.raises(InputError) as caught:
        chain_skeleton(qgraph)
    assert reason in str(caught.value)
    skeleton = build_skeleton(qgraph)
    assert skeleton.general and not any(s.side for s in skeleton.stages if isinstance(s, JoinStage))
    assert len({s.module for s in skeleton.stages}) == len(skeleton.stages)
    return dict(zip((s.name for s in skeleton.stages), skeleton.sources, strict=True))


def test_where_no_branch_is_the_main_one_every_layer_is_a_stage_of_its_own() -> None:
    net, x = start()
    assert general(net, concat(net, "twice", x, x), "layer twice: concatenates conv1 with itself")["twice"] == "conv1"
    # Both branches fork themselves: neither is a bypass.
    net, x = start()
    left = add(net, "left", net.conv("l1", x, 4, 1), net.conv("l2", x, 4, 3, padding=PAD))
    one, other = net.conv("o1", left, 4, 1), net.conv("o2", left, 4, 1)
    inner = [add(net, f"{n}.add", net.conv(f"{n}.c", t, 4, 3, padding=PAD), t) for n, t in (("p", one), ("q", other))]
    reads = general(net, add(net, "sum", *inner), "layer left: read by o1, o2; besides one main branch")
    assert reads["p.c"] == "o1" and reads["o1"] == reads["o2"] == "left"
    assert reads["sum"] == "q.add", "the operand that is made last"
    # An addition that no bypass leads to.
    net, x = start()
    a, b = (add(net, f"{n}.add", net.conv(f"{n}.c", x, 4, 3, padding=PAD), x) for n in "ab")
    reads = general(net, add(net, "sum", a, b), "layer conv1: read by a.c, a.add, b.c, b.add")
    assert (reads["a.c"], reads["b.c"], reads["a.add"]) == ("conv1", "conv1", "a.c")
    # A Fire inside stays one stage.
    net, x = start()
    y = concat(net, "twice", x, x)
    reads = general(net, net.fire("fire2", y, 2, 4, 4), "with itself")
    assert reads["fire2.expand"] == "fire2.squeeze" and "fire2.concat" not in reads


def test_what_no_machine_covers_is_refused_by_name_and_reason() -> None:
    # Three tensors at once.
    net, x = start()
    parts = [net.conv(f"c{i}", x, 2, 1) for i in range(3)]
    net.nodes.append(QNode("three", QConcat(), tuple(parts), (6, 8, 8), net._node(parts[0]).fmt))
    assert "layer three: concatenates 3 tensors" in refused(net, "three")
    # A layer that feeds nothing.
    net, x = start()
    net.conv("lost", x, 4, 1)
    assert "layer lost: nothing reads its result and it is not the output pool10; every layer must feed the output" in refused(net, x)
    # Operands of different formats, in either form of the machine.
    for twice in (False, True):
        net, x = start()
        x = concat(net, "twice", x, x) if twice else x
        other = net.conv("other", x, 4, 1, fmt=TensorFormat(8, 3, signed=False))
        net.nodes.append(QNode("cat", QConcat(), (x, other), (2 * 4 + 4 * twice, 8, 8), net._node(x).fmt))
        assert "layer cat: both operands must have the concat's format" in refused(net, "cat")
    # A sum over the map that is not the end, and an end that is none.
    net, x = start()
    early = net.finish(x, "early").nodes[-1]
    net.nodes.append(QNode("late", early.op, ("early",), early.shape, early.fmt))
    with pytest.raises(InputError, match="layer early: a global sum is only supported as the last layer"):
        build_skeleton(QuantGraph(tuple(net.nodes), "late"))
    net, x = start()
    with pytest.raises(InputError, match="layer conv1: the machine ends in a global sum over the map; got QConv"):
        build_skeleton(QuantGraph(tuple(net.nodes), "conv1"))


def test_a_bypass_that_needs_more_than_the_only_main_branch_makes_the_network_no_chain() -> None:
    """The main branch forks itself, so it cannot be the bypass; of 1x1 convolutions only, it is no row ahead. That shows only in the folded machine."""
    net, x = start()
    y = net.conv("m1", x, 4, 1)
    main = add(net, "inner", net.conv("m2", y, 4, 1), y)
    qgraph = net.finish(net.conv("conv10", add(net, "sum", main, net.conv("wide", x, 4, 3, padding=PAD)), 3, 1))
    chain, found = chain_skeleton(qgraph), plan_machine(qgraph, 200.0, 100_000.0)
    assert [s.name for s in chain.stages if isinstance(s, JoinStage) and s.side] == ["sum"] and found.general and found.link_into("wide").tensor == "conv1"
    stages = cheapest_chain(chain, 2_000, 3)
    with pytest.raises(NotAheadError, match="stage sum: bypass sum_bypass must not need more of conv1 for a sum than the main branch does"):
        assemble(qgraph, chain, stages, 200.0, 2_000)
