"""Plans of where replicas go: tables by hand, and laws against an exhaustive search."""

import itertools
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.placement import Node, Share, Wanted, assign, node_names, plan_lines, shortages, total_of


def node(name: str, gpus: float, cpus: float = 64, *, total: float | None = None) -> Node:
    return Node(name * 3, name, Share(cpus, gpus), Share(cpus, gpus if total is None else total))


def want(pool: str, count: int, gpus: float, cpus: float = 1) -> Wanted:
    return Wanted(pool, count, Share(cpus, gpus))


def places(wanted: Sequence[Wanted], nodes: Sequence[Node]) -> dict[str, str]:
    """Return the nodes of each pool as a string of one-letter names, "-" for none."""
    return {pool: "".join(n.name if n else "-" for n in found) for pool, found in assign(wanted, nodes).nodes.items()}


@pytest.mark.parametrize(
    ("wanted", "nodes", "expected"),
    [
        ([want("base", 1, 1)], [node("a", 1)], {"base": "a"}),
        ([want("base", 2, 4)], [node("a", 8)], {"base": "aa"}),
        ([want("base", 2, 4)], [node("a", 4), node("b", 4)], {"base": "ab"}),
        ([want("base", 4, 1)], [node("a", 4)], {"base": "aaaa"}),
        ([want("base", 4, 1)], [node("a", 1), node("b", 3)], {"base": "abbb"}),
        # A group of four does not spread over nodes, however much is free in all.
        ([want("base", 1, 4)], [node("a", 3), node("b", 3)], {"base": "-"}),
        ([want("base", 3, 4)], [node("a", 8)], {"base": "aa-"}),
        # The largest goes first, whatever the order: one by one the small ones would have split both nodes.
        ([want("judge", 4, 1), want("base", 1, 4)], [node("a", 4), node("b", 4)], {"judge": "bbbb", "base": "a"}),
        ([want("p", 1, 0.5), want("t", 1, 0.5), want("j", 1, 1)], [node("a", 2)], {"p": "a", "t": "a", "j": "a"}),
        # Two parts of different GPUs are no whole one.
        ([want("p", 2, 0.6), want("j", 1, 1)], [node("a", 2)], {"p": "a-", "j": "a"}),
        ([want("p", 1, 1)], [node("a", 0.9)], {"p": "-"}),
        ([want("p", 3, 0.3)], [node("a", 0.9)], {"p": "aaa"}),
        ([want("p", 10, 0.1)], [node("a", 1)], {"p": "a" * 10}),
        # CPUs count as well, and parts of them.
        ([want("p", 2, 1, cpus=4)], [node("a", 2, cpus=6), node("b", 2, cpus=4)], {"p": "ab"}),
        ([want("p", 4, 0, cpus=0.5)], [node("a", 0, cpus=2)], {"p": "aaaa"}),
        ([want("p", 5, 0, cpus=0.5)], [node("a", 0, cpus=2)], {"p": "aaaa-"}),
        ([want("p", 1, 1)], [], {"p": "-"}),
        ([], [node("a", 1)], {}),
    ],
)
def test_plans(wanted: list[Wanted], nodes: list[Node], expected: dict[str, str]) -> None:
    assert places(wanted, nodes) == expected


def test_a_plan_reads_as_pools_places_and_sums() -> None:
    wanted = [want("patient", 2, 4), want("judge", 3, 0.5)]
    nodes = [node("n1", 4, total=8), node("n2", 5, total=8)]
    assert plan_lines("the cluster", wanted, nodes, assign(wanted, nodes)) == [
        "placement on the cluster",
        "  patient: 2 x (4 GPUs, 1 CPU), each on one node: n1, n2",
        "  judge: 3 x (0.5 GPUs, 1 CPU), each on one node: 2 on n2, no room for 1",
        "  wanted 9.5 GPUs, 5 CPUs; free 9 of 16 GPUs, 128 of 128 CPUs",
    ]


def test_what_is_short_is_said_with_what_is_wanted_and_free_on_each_node() -> None:
    wanted = [want("patient", 3, 4), want("judge", 1, 1)]
    nodes = [node("n1", 2, total=8), node("n2", 5, total=8)]
    assert shortages(wanted, nodes, assign(wanted, nodes)) == [
        "patient: each of 3 must find 4 GPUs, 1 CPU on one node, got no room for 2 (wanted in all 13 GPUs, 4 CPUs; "
        "free 5 of 8 GPUs, 64 of 64 CPUs on n2; 2 of 8 GPUs, 64 of 64 CPUs on n1): "
        "lower their number or what each takes, or free what others hold"
    ]
    (too_large,) = shortages([want("base", 1, 16)], nodes, assign([want("base", 1, 16)], nodes))
    assert too_large.endswith(
        "no node is as large as one of them: lower what each takes (tensor_parallel, gpus, cpus_per_replica)"
    )
    (too_large,) = shortages([want("training", 1, 16)], nodes, assign([want("training", 1, 16)], nodes))
    assert too_large.endswith("lower what each takes (training.gpus_per_worker)")
    many = [node(f"n{i}", 0) for i in range(20)]
    (listed,) = shortages([want("base", 1, 1)], many, assign([want("base", 1, 1)], many))
    assert "no more on 12 others" in listed
    (none,) = shortages([want("base", 1, 1)], [], assign([want("base", 1, 1)], []))
    assert "nowhere: there is no node" in none


def test_nodes_of_one_machine_are_told_apart() -> None:
    addresses = {"aaaaaaaaaa": "10.0.0.1", "bbbbbbbbbb": "10.0.0.2", "cccccccccc": "10.0.0.2"}
    assert node_names(addresses) == ["10.0.0.1", "10.0.0.2 bbbbbbbb", "10.0.0.2 cccccccc"]


NODES = st.lists(st.builds(Share, cpus=st.integers(0, 16), gpus=st.integers(0, 8)), max_size=4).map(
    lambda shares: [Node(str(i), f"n{i}", share, share) for i, share in enumerate(shares)]
)
GPUS = st.sampled_from([0, 0.2, 0.25, 0.5, 0.7, 1, 2, 3, 4, 8])


def pools(gpus: st.SearchStrategy[float], cpus: st.SearchStrategy[float]) -> st.SearchStrategy[list[Wanted]]:
    sizes = st.lists(st.tuples(st.integers(1, 4), st.builds(Share, cpus=cpus, gpus=gpus)), max_size=4)
    return sizes.map(lambda found: [Wanted(f"p{i}", count, share) for i, (count, share) in enumerate(found)])


@given(wanted=pools(GPUS, st.sampled_from([0, 0.5, 1, 4])), nodes=NODES)
def test_every_replica_is_placed_or_missing_and_no_node_is_overfull(wanted: list[Wanted], nodes: list[Node]) -> None:
    found = assign(wanted, nodes)
    assert {pool: len(where) for pool, where in found.nodes.items()} == {one.pool: one.count for one in wanted}
    for each in nodes:
        here = [one.share for one in wanted for where in found.nodes[one.pool] if where == each]
        assert sum(share.cpus for share in here) <= each.free.cpus + 1e-9
        assert sum(share.gpus for share in here) <= each.free.gpus + 1e-9
    assert bool(found.missing) == bool(shortages(wanted, nodes, found))


@given(wanted=pools(st.sampled_from([1, 2, 3, 4, 8]), st.just(0)), nodes=NODES)
def test_what_is_missing_fits_no_node_beside_what_is_as_large(wanted: list[Wanted], nodes: list[Node]) -> None:
    found = assign(wanted, nodes)
    for one, each in itertools.product(wanted, nodes):
        if one.pool in found.missing:
            larger = [other for other in wanted if other.share.gpus >= one.share.gpus]
            used = sum(other.share.gpus * found.nodes[other.pool].count(each) for other in larger)
            assert each.free.gpus - used < one.share.gpus


@given(wanted=pools(st.sampled_from([1, 2, 4]), st.just(0)), nodes=NODES)
def test_sizes_that_divide_one_another_find_room_whenever_there_is_some(
    wanted: list[Wanted], nodes: list[Node]
) -> None:
    sizes = [int(one.share.gpus) for one in wanted for _ in range(one.count)][:7]
    taken = [Wanted(f"q{i}", 1, Share(0, size)) for i, size in enumerate(sizes)]
    rooms = [int(each.free.gpus) for each in nodes]
    assert (not assign(taken, nodes).missing) == is_feasible(sorted(sizes, reverse=True), rooms)


def is_feasible(sizes: list[int], rooms: list[int]) -> bool:
    """Try every node for every replica."""
    states = {tuple(rooms)}
    for size in sizes:
        states = {
            (*state[:i], state[i] - size, *state[i + 1 :])
            for state, i in itertools.product(states, range(len(rooms)))
            if state[i] >= size
        }
    return bool(states)


@given(wanted=pools(GPUS, st.sampled_from([0.1, 0.3, 1])))
def test_a_cluster_as_large_as_all_of_it_has_room(wanted: list[Wanted]) -> None:
    counts = Counter({one.pool: one.count for one in wanted})
    nodes = [node(f"{one.pool}-{i}", 8, cpus=1) for one in wanted for i in range(counts[one.pool])]
    assert not assign(wanted, nodes).missing
    assert total_of(wanted).cpus == pytest.approx(sum(one.count * one.share.cpus for one in wanted))
