"""Tiles are made once, and what is zero or does nothing is not made at all."""

import pytest

from lincodegen.program.ir import END, START, At, Graph, below, contracted, is_dot, strip


@pytest.fixture
def graph():
    return Graph()


def load(graph, name, *axes):
    return graph.make("load", (), (name,), axes)


def test_equal_tiles_are_one_object(graph):
    x, y = load(graph, "x", "m", "k"), load(graph, "y", "m", "k")
    assert graph.ein(x, y, ("m",)) is graph.ein(x, y, ("m",))
    assert graph.ein(x, y, ("m",)) is not graph.ein(y, x, ("m",))
    assert load(graph, "x", "m", "k") is x
    assert load(graph, "x", "t0", "k") is not x


def test_zero_is_absorbed(graph):
    x = load(graph, "x", "m", "k")
    assert graph.ein(None, x, ("m",)) is None
    assert graph.add(None, x) is x
    assert graph.add(x, None) is x
    assert graph.add(None, None) is None
    for made in (
        graph.scale(None, 2.0),
        graph.factor(None, "scale"),
        graph.rename(None, {"m": "m'"}),
        graph.reduce(None, ("m",)),
        graph.broadcast(None, ("m",)),
        graph.contract(None, x, (), (START, END), ("m",)),
        graph.cover(None, START, END, (0, 1), False),
        graph.solve(x, None),
    ):
        assert made is None


def test_what_does_nothing_is_not_made(graph):
    x = load(graph, "x", "m", "k")
    assert graph.scale(x, 1) is x
    assert graph.scale(graph.scale(x, -1), -1) is x
    assert graph.reduce(x, ("m", "k")) is x
    assert graph.broadcast(x, ("m", "k")) is x
    assert graph.rename(x, {"t0": "t1"}) is x
    turned = graph.rename(x, {"m": "m'"})
    assert turned.axes == ("m'", "k")
    assert graph.rename(turned, {"m'": "m"}) is x
    assert strip(turned) is x
    assert graph.rename(turned, {"m'": "w"}).args == (x,)


def test_names_stay_with_the_first(graph):
    x = load(graph, "x", "m", "k")
    graph.name(x, "K")
    graph.name(x, "other")
    assert graph.names[x.id] == "K"


@pytest.mark.parametrize(
    ("to", "origin", "channel", "axes"),
    [
        (At("m", "read"), At("m'", "write"), False, ("m", "m'")),
        (At("t0", "read"), START, True, ("t0", "k")),
        (END, At("w", "write"), True, ("w", "k")),
        (END, START, False, ()),
        (END, START, True, ("k",)),
    ],
)
def test_axes_of_decays(graph, to, origin, channel, axes):
    g = graph.make("log_decay", (), ("g",), ("tok", "k") if channel else ("tok",))
    assert graph.decay((g,), to, origin, channel).axes == axes


def test_contracted_axes_and_dots(graph):
    x, y = load(graph, "x", "m", "k"), load(graph, "y", "k", "v")
    s = load(graph, "s", "m")
    product = graph.ein(x, y, ("m", "v"))
    scaled = graph.ein(s, product, ("m", "v"))
    total = graph.ein(s, product, ("v",))
    assert contracted(product) == ("k",)
    assert is_dot(product)
    assert contracted(scaled) == ()
    assert not is_dot(scaled)
    assert contracted(total) == ("m",)
    assert not is_dot(total)
    assert contracted(graph.reduce(product, ("m",))) == ("v",)


def test_below_gives_operands_first_and_each_once(graph):
    x, y = load(graph, "x", "m", "k"), load(graph, "y", "k", "v")
    product = graph.ein(x, y, ("m", "v"))
    total = graph.add(product, graph.ein(load(graph, "s", "m"), product, ("m", "v")))
    order = below([total, None, product])
    assert len(order) == len({t.id for t in order}) == 6
    places = {t.id: i for i, t in enumerate(order)}
    assert all(places[a.id] < places[t.id] for t in order for a in t.args)
