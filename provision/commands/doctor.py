"""`rentune doctor`"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from provision.parts import Finding
    from provision.places import Places


@click.command("doctor")
@click.option("--install", is_flag=True, help="Build the Pulumi engine and fetch the clouds' plugins into the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(install: bool, as_json: bool) -> int:  # noqa: FBT001 - click hands it over by name
    """What is there, what is missing, how to get it.

    Exit 0 when something can be run here, 2 when nothing can. Without --install nothing is stored.
    """
    from provision.doctor import examine, provider_words, usable_providers
    from provision.envelope.show import show
    from provision.errors import Exit
    from provision.places import read_places

    places = read_places()
    if install:
        _install(places)
    findings = examine(places, os.environ)
    words = provider_words(findings)
    usable = usable_providers(findings)
    data = {"parts": findings, "providers": words}
    code = Exit.OK if any(usable.values()) else Exit.REFUSED
    return show("doctor", data, lambda: _draw(findings, words), as_json=as_json, exit_code=code)


def _install(places: Places) -> None:
    """The engine, and the plugin of every cloud whose SDK is installed."""
    from provision.clouds.engine.build import build_engine, find_engine, install_plugin
    from provision.clouds.programs import CLOUDS, load_cloud
    from provision.errors import MissingPart

    engine = find_engine(places) or build_engine(places, progress=lambda text: click.echo(text, err=True))
    for name in CLOUDS:
        try:
            cloud = load_cloud(name)
        except MissingPart:
            continue  # listed as missing below
        if cloud.PLUGIN is not None:
            install_plugin(places, engine, cloud.PLUGIN, cloud.plugin_version())


def remedy_lines(findings: tuple[Finding, ...]) -> Iterator[str]:
    """What to type, each once, with the parts that it brings."""
    remedies = dict.fromkeys(finding.remedy for finding in findings if finding.remedy)
    if remedies:
        yield "To get what is missing, in this order:"
    for remedy in remedies:
        yield f"  {', '.join(finding.part for finding in findings if finding.remedy == remedy)}: {remedy}"


def _draw(findings: tuple[Finding, ...], providers: dict[str, str]) -> None:
    from provision.envelope.show import console
    from provision.report.tables import Table
    from provision.report.terminal import draw

    out = console()
    parts = tuple((finding.part, finding.state, finding.serves, finding.detail) for finding in findings)
    out.print(draw(Table(title="Parts", columns=("part", "state", "for", "found"), rows=parts, of_words=True)))
    for line in remedy_lines(findings):
        click.echo(line)  # whole, so that it can be copied
    columns = ("provider", "here; met so far")
    out.print(draw(Table(title="Providers", columns=columns, rows=tuple(providers.items()), of_words=True)))
