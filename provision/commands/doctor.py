"""`rentune doctor`"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from provision.charge.layers import Layers
    from provision.doctor import CloudHere
    from provision.home.places import Places
    from provision.parts import Finding
    from provision.seam import Layer


PERMISSIONS = "What an account must allow, cloud by cloud: rentune doctor --permissions CLOUD"
STATES = {"yes": "there", "no": "missing", "unknown": "unknown"}  # Answer, of a layer


@click.command("doctor")
@click.argument("run", required=False)
@click.option(
    "--install",
    is_flag=True,
    help="Bring the Pulumi engine (fetched if you say yes, else built) and the clouds' plugins into the cache.",
)
@click.option("--permissions", metavar="CLOUD", help="Print what an account there must allow, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(run: str | None, install: bool, permissions: str | None, as_json: bool) -> int:  # noqa: FBT001 - click hands it over by name
    """What is there, what is missing, how to get it.

    Exit 0 when something can be run here, 2 when nothing can. Without --install nothing is stored.

    With the id of a RUN, or a part of it: everything that ends its box if nobody comes back, read back from the provider, from
    the box and from this machine. Exit 1 when one of these is missing, 4 when none is and something could not be seen. Nothing
    is changed.
    """
    if permissions is not None:
        return _show_permissions(permissions, alone=run is None and not install, as_json=as_json)
    if run is not None:
        return _examine_run(run, install=install, as_json=as_json)
    from provision.doctor import clouds_here, examine, provider_words, usable_providers
    from provision.envelope.show import show
    from provision.errors import Exit
    from provision.home.places import read_places
    from provision.prepare.asking import market
    from provision.prepare.limits.quotas import remember_today

    places = read_places()
    if install:
        _install(places, as_json=as_json)
    findings = examine(places, os.environ)
    words = provider_words(findings)
    usable = usable_providers(findings)
    clouds = clouds_here(findings, market(), os.environ, remember=remember_today(places.quotas))
    data = {"parts": findings, "providers": words, "clouds": clouds}
    code = Exit.OK if any(usable.values()) else Exit.REFUSED
    notes = _clock_notes(clouds)
    return show("doctor", data, lambda: _draw(findings, words, clouds, notes), as_json=as_json, notes=notes, exit_code=code)


def _clock_notes(clouds: dict[str, CloudHere]) -> tuple[str, ...]:
    """That the clock of this machine is off, by each cloud that says so."""
    from provision.seam import clock_trouble

    troubles = {name: clock_trouble(each.clock_ahead_s) for name, each in clouds.items()}
    return tuple(
        f"{trouble} So says {name}: nothing is rented there until it is set, for a deadline would be as far off."
        for name, trouble in troubles.items()
        if trouble is not None
    )


def _show_permissions(cloud: str, *, alone: bool, as_json: bool) -> int:
    from catalogs.user_file import as_said
    from planner.nearest import nearest
    from provision.clouds.permissions import how_to_see, permission_pages
    from provision.clouds.programs import CLOUDS
    from provision.envelope.show import show
    from provision.errors import BadInput

    name = cloud.lower()
    if not alone:
        raise BadInput("--permissions prints pages, and looks at nothing.", hint=how_to_see(name))
    if name not in CLOUDS:
        raise BadInput(f"There is no cloud {as_said(cloud)} here.", hint=nearest(name, CLOUDS))
    pages = {page.name: page.read_text(encoding="utf-8") for page in permission_pages(name)}

    def draw() -> None:
        for title, text in pages.items():  # one alone is written into a file
            click.echo(f"── {title} ──\n{text}" if len(pages) > 1 else text, nl=len(pages) > 1)

    return show("doctor", pages, draw, as_json=as_json)


def _examine_run(run: str, *, install: bool, as_json: bool) -> int:
    from provision.charge.layers import examine_layers
    from provision.envelope.show import show
    from provision.errors import BadInput, Exit
    from provision.home.clocks import CLOCKS
    from provision.home.places import read_places
    from provision.seam import Answer

    if install:
        raise BadInput("--install is for this machine, not for a run.", hint=f"rentune doctor {run}")
    found = examine_layers(run, places=read_places(), environment=os.environ, clock=CLOCKS.wall)
    code = {Answer.YES: Exit.OK, Answer.NO: Exit.FAILED, Answer.UNKNOWN: Exit.UNSEEN}[found.whole]
    return show("doctor", found, lambda: _draw_layers(found), as_json=as_json, exit_code=code)


def _agrees(as_json: bool, question: str) -> bool:  # noqa: FBT001 - it is bound by its place
    """Where somebody can answer; a program that reads JSON can't."""
    return not as_json and sys.stdin is not None and sys.stdin.isatty() and click.confirm(question, err=True)


def _install(places: Places, *, as_json: bool) -> None:
    """The engine, and the plugin of every cloud whose SDK is installed."""
    from provision.clouds.engine.build import install_plugin
    from provision.clouds.engine.release import obtain_engine
    from provision.clouds.programs import CLOUDS, load_cloud, plugin_version
    from provision.errors import MissingPart

    engine = obtain_engine(places, agrees=partial(_agrees, as_json), progress=lambda text: click.echo(text, err=True))
    for name in CLOUDS:
        try:
            cloud = load_cloud(name)
        except MissingPart:
            continue  # listed as missing below
        if cloud.PLUGIN is not None:
            install_plugin(places, engine, cloud.PLUGIN, plugin_version(cloud.PLUGIN))


def remedy_lines(findings: tuple[Finding, ...]) -> Iterator[str]:
    """What to type, each once, with the parts that it brings."""
    remedies = dict.fromkeys(finding.remedy for finding in findings if finding.remedy)
    if remedies:
        yield "To get what is missing, in this order:"
    for remedy in remedies:
        yield f"  {', '.join(finding.part for finding in findings if finding.remedy == remedy)}:"
        yield f"    {remedy}"


def _draw(
    findings: tuple[Finding, ...], providers: dict[str, str], clouds: dict[str, CloudHere], notes: tuple[str, ...]
) -> None:
    from provision.envelope.show import console, say
    from provision.report.tables import Table
    from provision.report.terminal import draw

    out = console()
    parts = tuple((finding.part, finding.state, finding.serves, finding.detail) for finding in findings)
    out.print(draw(Table(title="Parts", columns=("part", "state", "for", "found"), rows=parts, of_words=True)))
    for line in remedy_lines(findings):
        if line.endswith((".", ":")):
            say(line.strip(), indent=line.partition(line.strip())[0])
        else:
            click.echo(line)  # a command, so that it can be copied
    columns = ("provider", "here; met so far")
    out.print(draw(Table(title="Providers", columns=columns, rows=tuple(providers.items()), of_words=True)))
    of_clouds = tuple((name, each.credentials, each.gpu_quota, each.smallest_offer) for name, each in clouds.items())
    heads = ("cloud", "credentials", "GPU quota", "smallest offer")
    out.print(draw(Table(title="Clouds", columns=heads, rows=of_clouds, of_words=True)))
    for note in (PERMISSIONS, *notes):
        say(note)


def _draw_layers(found: Layers) -> None:
    from provision.envelope.show import console
    from provision.report.tables import Table
    from provision.report.terminal import draw
    from provision.words import deadline_words

    now_s = time.time()
    rows = tuple((layer.name, layer.place, STATES[layer.there], _strikes(layer, now_s), layer.says) for layer in found.layers)
    if rows:
        columns = ("layer", "at", "state", "strikes in", "it says")
        title = f"What ends the box of run {found.run_id}; {deadline_words(found.deadline_at_s - now_s)}"
        console().print(draw(Table(title=title, columns=columns, rows=rows, of_words=True)))
    click.echo(found.message)


def _strikes(layer: Layer, now_s: float) -> str:
    return "" if layer.strikes_at_s is None else _left(layer.strikes_at_s, now_s)


def _left(at_s: float, now_s: float) -> str:
    from provision.words import seconds_words

    return seconds_words(max(0.0, at_s - now_s))
