"""SiloPicker: choose silos with the mouse, the keyboard, or one line of code."""

from collections.abc import Iterable, Mapping
from typing import Any

from fl_kit.chart.frontend import has_widgets
from fl_kit.silo import Federation
from fl_kit.silo_facts import Known, SiloFacts, from_tags
from fl_kit.table import Shown, Table
from fl_kit.widgets.selection import Selection
from fl_kit.widgets.silo_rows import as_table, columns, header, legend, row

HEIGHT = 340
"""Pixels of the list; more silos than fit are scrolled."""
ROW = 26


class SiloPicker(Shown):
    """A table with a check box for each silo of a federation; `picker.federation` is what `job.run` takes.

    federation  to choose from
    facts       silo → SiloFacts: rows, label mix, status, price, and why one cannot take part. Default: what the
                silos' tags say; `sim.silo_facts(federation)` reads it for a simulation,
                `fl_kit.azureml.silo_facts(federation, client)` asks the workspace
    silos       names (or patterns) to start with, for instance a papermill parameter; default: all that can

    The same without a widget: `federation.select(["hospital-*"])`. A picker that is shown follows whatever code
    changes. Without a live front end (papermill, nbconvert, a terminal) it shows itself as a static table.

    Raises FederationError for names that no silo has, with the nearest one.

    >>> both = Federation(silos=tuple(Silo(name=name, data="") for name in ("ash", "birch")))  # doctest: +SKIP
    >>> SiloPicker(both, silos=["ash"]).federation.names  # doctest: +SKIP
    ('ash',)
    """

    def __init__(
        self, federation: Federation, *, facts: Known | None = None, silos: Iterable[str] | None = None
    ) -> None:
        tags = from_tags(federation)
        self._selection = Selection(federation, {**tags, **(facts or {})}, silos)
        self._view: PickerView | None = None

    @property
    def federation(self) -> Federation:
        """The federation of the chosen silos; raises FederationError if none is chosen."""
        return self._selection.federation

    @property
    def names(self) -> tuple[str, ...]:
        """The chosen silos, in silo order."""
        return self._selection.chosen

    def facts(self, silo: str) -> SiloFacts:
        """What is known of a silo."""
        return self._selection.facts(silo)

    def select(
        self, names: Iterable[str] | None = None, *, region: str | None = None, min_rows: int | None = None
    ) -> "SiloPicker":
        """Choose these silos and no others; gives itself.

        names     names or patterns such as "hospital-*"; None means any
        region    only of this region, or of a pattern
        min_rows  only with at least so many training rows
        """
        able = self._selection.where(region=region, min_rows=min_rows)
        if names is None:
            self._selection.only(able)
        else:
            wanted = Selection(
                self._selection.everyone, {n: self.facts(n) for n in self._selection.everyone.names}, names
            )
            self._selection.only([name for name in wanted.chosen if name in able])
        return self._shown_again()

    def all(self) -> "SiloPicker":
        """Choose every silo that can take part; gives itself."""
        self._selection.only(self._selection.able)
        return self._shown_again()

    def none(self) -> "SiloPicker":
        """Choose no silo; gives itself."""
        self._selection.only(())
        return self._shown_again()

    def invert(self) -> "SiloPicker":
        """Choose what is not chosen, and drop what is; gives itself."""
        self._selection.invert()
        return self._shown_again()

    def table(self) -> Table:
        """The choice as a static table."""
        return as_table(self._selection)

    def _shown_again(self) -> "SiloPicker":
        if self._view is not None:
            self._view.refresh()
        return self

    def _repr_mimebundle_(self, **_: Any) -> Mapping[str, Any]:
        """Text and a static table always; the widget where somebody can click it."""
        table = self.table()
        static = {"text/plain": table.text(), "text/html": table.html()}
        if not has_widgets():
            return static
        if self._view is None:
            self._view = PickerView(self._selection)
        return {**static, **self._view.bundle()}


class PickerView:
    """The widgets: a filter, buttons, and one check box for each silo whose label is the whole row."""

    def __init__(self, selection: Selection) -> None:
        import ipywidgets as w

        self._selection = selection
        self._busy = False
        shown, classes = columns(selection), selection.classes
        self._boxes: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        for silo in selection.everyone.silos:
            facts = selection.facts(silo.name)
            box = w.Checkbox(
                description=row(silo, facts, shown, classes),
                description_allow_html=True,
                indent=False,
                disabled=bool(facts.reason),
                tooltip=facts.reason or f"silo {silo.name}",
                layout=w.Layout(width="auto", height=f"{ROW}px", margin="0", flex="0 0 auto"),
            )
            box.observe(lambda change, name=silo.name: self._ticked(name, change["new"]), names="value")
            self._boxes[silo.name] = box
            words = [silo.name, silo.region, silo.compute, silo.datastore, facts.status, facts.reason]
            self._texts[silo.name] = " ".join(words).casefold()
        self._filter = w.Text(
            placeholder="filter by name, region, status …", description="", layout=w.Layout(width="230px")
        )
        self._filter.observe(lambda change: self._filtered(change["new"]), names="value")
        self._status = w.HTML()
        total = sum(column.width + 12 for column in shown) + 40
        head = w.HTML(f'<div style="padding-left:21px">{header(shown)}</div>', layout=w.Layout(margin="0"))
        listed = w.VBox(
            list(self._boxes.values()),
            layout=w.Layout(max_height=f"{HEIGHT}px", overflow="auto", width=f"{total}px", display="flex"),
        )
        self.widget = w.VBox([w.HBox([self._filter, *self._buttons(w)]), head, listed, self._status])
        self.refresh()

    def bundle(self) -> Mapping[str, Any]:
        """The widget's own view, for a front end that has widgets."""
        found: Mapping[str, Any] = self.widget._repr_mimebundle_()
        return {key: value for key, value in found.items() if key.startswith("application/")}

    def refresh(self) -> None:
        """Show what is chosen."""
        chosen = set(self._selection.chosen)
        self._busy = True
        try:
            for name, box in self._boxes.items():
                box.value = name in chosen
        finally:
            self._busy = False
        self._tell()

    def _buttons(self, w: Any) -> list[Any]:
        everyone = self._selection.everyone
        regions = sorted({silo.region for silo in everyone.silos} - {""})
        buttons = []
        for name, act in (("all", self._all), ("none", self._none), ("invert", self._selection.invert)):
            button = w.Button(description=name, tooltip=f"choose {name}", layout=w.Layout(width="72px"))
            button.on_click(lambda _, act=act: self._do(act))
            buttons.append(button)
        if len(regions) > 1:
            pick = w.Dropdown(options=[("by region …", ""), *((r, r) for r in regions)], layout=w.Layout(width="150px"))
            pick.observe(lambda change: self._of_region(change["new"]), names="value")
            buttons.append(pick)
        return buttons

    def _do(self, act: Any) -> None:
        act()
        self.refresh()

    def _shown_names(self) -> list[str]:
        return [name for name, box in self._boxes.items() if box.layout.display != "none"]

    def _all(self) -> None:
        """Those that the filter shows are chosen too."""
        shown = set(self._shown_names()) & set(self._selection.able)
        self._selection.only([*self._selection.chosen, *shown])

    def _none(self) -> None:
        """Those that the filter shows are dropped."""
        shown = set(self._shown_names())
        self._selection.only([name for name in self._selection.chosen if name not in shown])

    def _of_region(self, region: str) -> None:
        if region:
            self._do(lambda: self._selection.only(self._selection.where(region=region)))

    def _ticked(self, name: str, on: bool) -> None:
        if not self._busy:
            self._selection.set(name, on)
            self._tell()

    def _filtered(self, text: str) -> None:
        words = text.casefold().split()
        for name, box in self._boxes.items():
            display = "" if all(word in self._texts[name] for word in words) else "none"
            if (box.layout.display or "") != display:
                box.layout.display = display or None
        self._tell()

    def _tell(self) -> None:
        hidden = len(self._boxes) - len(self._shown_names())
        more = f" · {hidden} hidden by the filter" if hidden else ""
        told = f'<div role="status">{self._selection.summary()}{more}</div>'
        self._status.value = told + legend(self._selection.classes)
