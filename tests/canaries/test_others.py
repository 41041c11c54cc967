"""What is relied on of libraries that need no adapter: public names, of which the documentation does not say enough."""

from __future__ import annotations

import asyncio
import pickle

import anywidget
import ipywidgets
import pytest
import uvloop
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import choose_encoder


def test_prometheus_client_encodes_families_that_were_pickled_and_merged() -> None:
    """nbcompose/_replica/metrics.py and endpoints.py"""
    family = CounterMetricFamily("calls", "Calls.", labels=["service"])
    family.add_metric(["A"], 3)
    sent = pickle.loads(pickle.dumps(family))
    merged = Metric(sent.name, sent.documentation, sent.type, sent.unit)
    merged.samples.extend(sent.samples)

    class Registry:
        def collect(self) -> list[Metric]:
            return [merged]

    for accept in ("", "application/openmetrics-text"):
        encode, media_type = choose_encoder(accept)
        assert b'calls_total{service="A"} 3.0' in encode(Registry())
        assert media_type.startswith(accept or "text/plain")


@pytest.mark.filterwarnings("ignore:Deprecated in traitlets:DeprecationWarning")  # of ipywidgets 8.1.0 itself
def test_anywidget_reads_its_sources_from_the_class_and_has_a_comm() -> None:
    """nbcompose/_notebook/graph/widget.py"""

    class Widget(anywidget.AnyWidget):
        _esm = "export default {}"
        _css = ".a {}"

    assert issubclass(anywidget.AnyWidget, ipywidgets.Widget)
    widget = Widget()
    assert (widget._esm, widget._css) == ("export default {}", ".a {}")
    assert hasattr(widget, "comm")
    widget.close()


def test_uvloop_makes_loops_that_a_runner_takes() -> None:
    """nbcompose/_rpc/blocking.py and _replica/main.py"""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert isinstance(runner.get_loop(), uvloop.Loop)
        assert runner.run(asyncio.sleep(0, "done")) == "done"
