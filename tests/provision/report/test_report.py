"""The report, on a terminal and as one HTML file."""

from __future__ import annotations

import io
import json
import re
import time
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from planner.plan import Plan, Range
from provision.account.ledger import Ledger
from provision.account.receipt.value import BaseUsed, Figure, Receipt, Restart
from provision.charge.ends.ending import end
from provision.cli import call
from provision.errors import Exit
from provision.home.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.report.cost import render_cost
from provision.report.page import render_page
from provision.report.plot import Series, render_plot, ticks
from provision.report.tables import bill_table, headline, tables
from provision.report.terminal import print_report
from provision.report.words import base_words, error_words, percent_words, planned_words, weights_words
from provision.walk.edges import Edges
from provision.watch.curves import Curves
from provision.words import bytes_words, seconds_words
from remote.contract import EndReason, Evaluation, Reached, RowsRead, Sample
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.account.receipts import outcome_of, receipt_of, run_state

CURVES = Curves(losses=((1, 5.0), (2, 4.0), (3, 3.5)), held_out=((0, 5.2), (3, 4.0)), memory=((10.0, 2**30), (11.0, 2**30 + 5)))
SAMPLE = Sample(
    prompt="What does <b>os</b> do?", reference="It talks & listens.", before="<script>alert(1)</script>", after="ok"
)


@pytest.fixture
def receipt(plan: Plan) -> Receipt:
    return receipt_of(plan, run_state(plan), outcome_of(samples=(SAMPLE,)))


def printed(receipt: Receipt) -> str:
    out = io.StringIO()
    print_report(receipt, Console(file=out, width=120), report_file="/home/me/report.html")
    return out.getvalue()


def test_the_first_line_says_how_it_ended_and_what_it_cost(receipt: Receipt) -> None:
    """Planned and metered in one breath."""
    assert headline(receipt) == "trained and gone: $0 in 1 min 50 s (planned $0.0160)"
    open_books = msgspec.structs.replace(receipt, exit_code=Exit.FAILED)
    assert headline(open_books).startswith("trained and gone, its books open: ")


CUT_SHORT = Reached(step=31, total_steps=60, judged_step=20, weights_step=20)


def test_half_a_training_is_not_shown_as_a_whole_one(plan: Plan) -> None:
    """Neither on the terminal nor on the page, and both say whose weights came home."""
    outcome = outcome_of(reason=EndReason.DEADLINE, reached=CUT_SHORT)
    receipt = receipt_of(plan, run_state(plan), outcome)
    page = render_page(receipt, plan, CURVES)
    assert headline(receipt).startswith("trained in part: 31 of 60 steps (deadline), gone: ")
    assert 'class="verdict in_part"' in page
    for shown in (" ".join(printed(receipt).split()), page):
        assert "trained in part: 31 of 60 steps (deadline)" in shown
        assert "Weights of step 20 of 31 trained, the best on held-out rows; the last 11 were not evaluated." in shown


@pytest.mark.parametrize(
    ("step", "judged_step", "weights_step", "words"),
    [
        (60, 60, 60, None),
        (60, 60, 45, "Weights of step 45 of 60 trained, the best on held-out rows."),
        (21, 20, 20, "Weights of step 20 of 21 trained, the best on held-out rows; the last 1 was not evaluated."),
        (9, 0, 9, "Weights of step 9; none were judged."),
        (60, 0, 60, None),
    ],
    ids=["the last", "the best", "one after it", "cut off before the first", "nothing to judge by"],
)
def test_whose_weights_came_home_is_said_where_it_is_not_plain(
    plan: Plan, step: int, judged_step: int, weights_step: int, words: str | None
) -> None:
    """The last step's, judged, go without saying."""
    reached = Reached(step=step, total_steps=60, judged_step=judged_step, weights_step=weights_step)
    assert weights_words(receipt_of(plan, run_state(plan), outcome_of(reached=reached))) == words


def test_what_takes_no_time_to_speak_of_is_compared_with_nothing() -> None:
    """Else 0.00 s and 804 times as much stand beside one another."""
    figure = Figure(name="queue", unit="s", planned=Range(p10=0.001, p50=0.002, p90=0.004), metered=1.6)
    assert (planned_words(figure), error_words(figure)) == ("under 0.01 s", "–")


def test_a_base_of_random_weights_is_called_that(plan: Plan) -> None:
    """Beside *trained*, which is true and says too much."""
    receipt = receipt_of(plan, run_state(plan), outcome_of(), random_base=True)
    assert "random weights" in str(base_words(receipt))
    assert "began from random weights" in render_page(receipt, plan, CURVES)
    assert base_words(receipt_of(plan, run_state(plan), outcome_of())) is None


def test_a_run_that_began_with_an_earlier_adapter_says_so(plan: Plan) -> None:
    """Else "before" is read as the base's."""
    loop = msgspec.structs.replace(plan.request.loop, init_adapter="/runs/a/checkpoints/step-10")
    plan = msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, loop=loop))
    receipt = receipt_of(plan, run_state(plan), outcome_of())
    assert receipt.base.began_with == "/runs/a/checkpoints/step-10"
    assert "It began with the weights in /runs/a/checkpoints/step-10" in render_page(receipt, plan, CURVES)


def test_the_terminal_shows_every_promised_line(receipt: Receipt) -> None:
    """Bill, figures, phases, loss, teardown, samples, and where things lie."""
    text = printed(receipt)
    for words in (
        "compute", "idle", "disk", "address", "egress", "failed attempts", "RAM", "tokens per second", "train", "Held-out loss",
        "more than three standard errors", "Teardown", "reference", "Adapter: /home/me/adapter",
        "Report:  /home/me/report.html",
    ):  # fmt: skip
        assert words in text, words


def test_a_classification_shows_how_well_classes_are_told_apart(plan: Plan) -> None:
    """On the terminal, on the page and in the receipt that `--json` prints, beside the loss; why there is no AUC is said."""
    before = Evaluation(step=0, mean_loss=0.7, row_losses=(0.7, 0.8, 0.6), metrics={"accuracy": 0.5, "macro_f1": 0.25})
    after = Evaluation(step=8, mean_loss=0.2, row_losses=(0.2, 0.3, 0.1), metrics={"macro_f1": 0.75, "accuracy": 0.875})
    receipt = receipt_of(plan, run_state(plan), outcome_of(before=before, after=after))
    page, text = render_page(receipt, plan, CURVES), printed(receipt)
    for shown in (page, text):
        assert [shown.index(words) for words in ("Held-out loss", "accuracy", "0.875", "macro F1", "0.750")] == sorted(
            shown.index(words) for words in ("Held-out loss", "accuracy", "0.875", "macro F1", "0.750")
        )
        assert "No AUC: a class has no held-out row, or all of them." in shown
        assert "Nats per row" in shown
    told = json.loads(msgspec.json.encode(receipt))["learning"]
    assert told["metrics"] == {"accuracy": {"before": 0.5, "after": 0.875}, "macro_f1": {"before": 0.25, "after": 0.75}}
    every = [msgspec.structs.replace(each, metrics={**each.metrics, "auc": 0.9}) for each in (before, after)]
    whole = printed(receipt_of(plan, run_state(plan), outcome_of(before=every[0], after=every[1])))
    assert "AUC" in whole
    assert "No AUC" not in whole
    assert "Classes of held-out rows" not in printed(receipt_of(plan, run_state(plan), outcome_of()))


def test_each_class_is_told_and_which_was_taken_for_which(plan: Plan) -> None:
    """Of many classes those that were told worst, and no square of them."""
    before = Evaluation(step=0, mean_loss=0.7, row_losses=(0.7, 0.8), metrics={"accuracy": 0.5})
    after = msgspec.structs.replace(before, step=8, confusion=((0, 0, 2), (0, 1, 1), (1, 1, 1)))
    few = receipt_of(plan, run_state(plan), outcome_of(before=before, after=after, classes=("ham", "spam")))
    told = {table.title: table for table in tables(few)}
    assert told["Each class, after"].rows == (("ham", "3", "1.000", "0.667", "0.800"), ("spam", "1", "0.500", "1.000", "0.667"))
    square = told["Held-out rows by class, and what they were taken for"]
    assert (square.columns, square.rows) == (("is, taken for", "ham", "spam"), (("ham", "2", "1"), ("spam", "0", "1")))
    names = tuple(f"class {number}" for number in range(30))
    right = tuple((number, number, 1) for number in range(29))
    after = msgspec.structs.replace(after, confusion=(*right, (29, 0, 1)))
    many = receipt_of(plan, run_state(plan), outcome_of(before=before, after=after, classes=names))
    told = {table.title: table for table in tables(many)}
    assert "Held-out rows by class, and what they were taken for" not in told
    worst = told["Each class, after"]
    assert worst.rows[-1] == ("class 29", "1", "–", "0.000", "0.000")
    assert (len(worst.rows), worst.note) == (20, "Those told worst; 10 more stand in the model card.")
    assert "Each class, after" not in {table.title for table in tables(receipt_of(plan, run_state(plan), outcome_of()))}


def test_a_class_of_which_no_row_could_be_held_out_is_named(plan: Plan) -> None:
    """Where there is no AUC for want of it; of others it is not known which have none."""
    found = {"accuracy": 0.5}
    before, after = (Evaluation(step=step, mean_loss=0.7, row_losses=(0.7, 0.8), metrics=found) for step in (0, 8))
    learning = receipt_of(plan, run_state(plan), outcome_of(before=before, after=after)).learning
    receipt = msgspec.structs.replace(
        receipt_of(plan, run_state(plan)), learning=msgspec.structs.replace(learning, lone_classes=("Billing", "shiping"))
    )
    assert "No AUC: no row is held out of 'Billing', 'shiping', having a single one." in printed(receipt)


def test_a_kill_and_what_it_took_stand_in_every_report(receipt: Receipt, plan: Plan) -> None:
    """Terminal, page and the file beside the adapter: else steps and minutes are gone without a word."""
    killed = Restart(steps_lost=6, phase="train", cut_off_s=135.0)
    known = msgspec.structs.replace(receipt, restarts=(killed, Restart(rebooted=True)))
    words = "The trainer was killed and started again: 6 steps lost; 2 min 15 s of train until then stand in no phase."
    for shown in (printed(known), render_page(known, plan, CURVES), render_cost(known)):
        assert words in " ".join(shown.split())
        assert "The box was rebooted, and the trainer started again: no step lost." in " ".join(shown.split())
    assert "started again" not in printed(receipt)
    assert msgspec.json.decode(msgspec.json.encode(known), type=Receipt) == known


def test_held_out_rows_that_were_learned_are_told_where_the_loss_is(receipt: Receipt, plan: Plan) -> None:
    """Not in the log alone, beside a loss that fell by more than three standard errors."""
    learned = msgspec.structs.replace(receipt, learning=msgspec.structs.replace(receipt.learning, held_out_twins=1))
    for shown in (printed(learned), render_page(learned, plan, CURVES)):
        assert "held-out rows says word for word what is learned" in " ".join(shown.split())
    assert "word for word" not in printed(receipt)


def test_what_may_still_bill_is_said_first_and_with_its_cure(receipt: Receipt) -> None:
    """An orphan is never hidden in a table."""
    assert receipt.teardown is not None
    left = msgspec.structs.replace(receipt.teardown, verdict="orphaned", command="rentune down r")
    text = printed(msgspec.structs.replace(receipt, exit_code=3, teardown=left))
    assert "SOMETHING MAY STILL BILL" in text
    assert "rentune down r" in text


class Parsed(HTMLParser):
    """Tags in their nesting, and what they point to."""

    VOID = frozenset({"meta", "line", "polyline", "circle", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_but_itself(receipt: Receipt, plan: Plan) -> None:
    """No script, no link, no font; every tag closed; two plots."""
    page = render_page(receipt, plan, CURVES)
    parsed = Parsed()
    parsed.feed(page)
    assert parsed.open == []
    assert parsed.links == []
    assert "script" not in parsed.tags
    assert parsed.tags.count("svg") == 2
    assert not re.search(r"https?://|url\(|@import", page)


def test_what_a_model_says_is_text_and_nothing_else(receipt: Receipt, plan: Plan) -> None:
    """Answers come from a model: they may hold anything."""
    page = render_page(receipt, plan, CURVES)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_page_and_terminal_draw_the_same_tables(receipt: Receipt, plan: Plan) -> None:
    """One set of rows, two ways to show it."""
    page = render_page(receipt, plan, CURVES)
    for table in tables(receipt):
        assert f"<h2>{table.title}</h2>" in page


def test_a_run_that_never_trained_has_a_page_without_plots(plan: Plan) -> None:
    """It failed before the first step; its bill is shown all the same."""
    page = render_page(receipt_of(plan, run_state(plan), message="The box never answered."), plan, Curves())
    assert "<svg" not in page
    assert "The box never answered." in page


points = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=20)


@given(points=points)
def test_every_point_is_drawn_inside_the_frame(points: list[tuple[float, float]]) -> None:
    """Whatever the values, one or many, equal or far apart."""
    drawn = render_plot((Series(name="x", colour="red", points=tuple(points), marks=True),), x_label="x", y_label="y")
    for x, y in re.findall(r'<circle cx="([-\d.]+)" cy="([-\d.]+)"', drawn):
        assert 0 <= float(x) <= 720
        assert 0 <= float(y) <= 260


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    """Between one and a dozen, in order."""
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 12
    assert list(found) == sorted(found)


def test_words_for_quantities() -> None:
    """Units change where a person would change them."""
    assert [bytes_words(2048), bytes_words(3 * 2**20), bytes_words(13.21 * 2**30)] == ["2.0 KiB", "3.0 MiB", "13.21 GiB"]
    assert [seconds_words(0.034), seconds_words(41.24), seconds_words(185), seconds_words(7800)] == [
        "0.03 s", "41.2 s", "3 min 05 s", "2 h 10 min",
    ]  # fmt: skip
    assert [percent_words(0.123), percent_words(-0.034), percent_words(23.0)] == ["+12 %", "−3.4 %", "24 ×"]


def test_no_cell_is_empty(receipt: Receipt) -> None:
    """What nobody has a figure for is a dash, what costs nothing is $0, and a silent answer says so."""
    for table in tables(receipt):
        for row in (*table.rows, *([table.total] if table.total else [])):
            assert all(cell.strip() for cell in row), (table.title, row)
            assert "$0.0000" not in row
    samples = (Sample(prompt="What?", reference="It.", before="", after=""),)
    silent = msgspec.structs.replace(receipt, learning=msgspec.structs.replace(receipt.learning, samples=samples))
    assert printed(silent).count("(nothing)") == 2


def test_the_bill_stands_beside_the_adapter_as_markdown(receipt: Receipt) -> None:
    """The model card links to it: planned beside metered, and the total."""
    text = render_cost(receipt)
    assert "| line | planned | metered |" in text
    assert re.search(r"\| total \| \$0\.0160 \| \$0 \|", text)


@pytest.mark.parametrize(
    ("fetched_bytes", "words"),
    [
        (None, None),
        (0, "The base model lay on the box already: nothing of it was downloaded."),
        (3 * 2**20, "3.0 MiB of the base model were downloaded."),
    ],
)
def test_what_was_downloaded_of_a_base_from_the_hub_is_told(plan: Plan, fetched_bytes: int | None, words: str | None) -> None:
    receipt = receipt_of(plan, run_state(plan), outcome_of())
    shown = " ".join(printed(msgspec.structs.replace(receipt, base=BaseUsed(fetched_bytes=fetched_bytes))).split())
    assert (words in shown) if words else ("download" not in shown.partition("Phases")[2].partition("from the first line")[2])


def test_rows_that_were_cut_or_left_out_are_told_on_terminal_and_page(plan: Plan) -> None:
    """With the lines of those that taught nothing."""
    learned = RowsRead(used=119, cut=2, left_out=1, left_out_lines=(41,))
    judged = RowsRead(used=30, cut=0, left_out=0, left_out_lines=())
    receipt = receipt_of(plan, run_state(plan), outcome_of(train_rows=learned, held_out_rows=judged))
    (table,) = (table for table in tables(receipt) if table.title == "Rows of the data")
    assert table.columns == ("rows", "used", "of these cut", "left out")
    assert table.rows == (("to learn from", "119", "2", "1"), ("held out", "30", "0", "0"))
    for shown in (printed(receipt), render_page(receipt, plan, CURVES)):
        assert "Rows of the data" in shown
        assert "Left out, for a cut left nothing to learn: to learn from, line 41." in shown


def test_judging_that_takes_longer_than_training_is_told(plan: Plan) -> None:
    """As it does on a small job: with what makes it shorter."""
    small = receipt_of(plan, run_state(plan), outcome_of(phase_s={"train": 5.0, "evaluate": 9.0}))
    assert "Judging took longer than training" in printed(small)
    assert "Judging took longer" not in printed(receipt_of(plan, run_state(plan), outcome_of()))


@pytest.mark.parametrize(
    ("offer", "usd_per_hour", "words"),
    [
        ("local/here/this-machine/on_demand", "0", "on a machine that bills nothing; `rentune run --assume-price USD` shows"),
        ("local/here/this-machine/on_demand", "2.5", "billed at $2.5 per hour, the price that was assumed for it."),
        ("aws/us-east-1/g6.xlarge/on_demand", "0.80", "billed at $0.80 per hour, the price at launch."),
    ],
)
def test_the_bill_says_whose_price_it_is(receipt: Receipt, offer: str, usd_per_hour: str, words: str) -> None:
    """Nobody should take a rehearsal for an invoice."""
    priced = msgspec.structs.replace(receipt, offer=offer, usd_per_hour=Decimal(usd_per_hour))
    assert words in str(bill_table(priced).note)


def test_without_a_name_the_newest_run_with_a_receipt_is_reported(
    run_id: str, plan: Plan, places: Places, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """And called by its id; a run that has none yet is passed over."""
    later = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)
    for name, words in ((run_id, "The only run with a receipt: "), (later, "The last to end of 2 runs with a receipt: ")):
        receipt = msgspec.structs.replace(receipt_of(plan, run_state(plan), outcome_of()), run_id=name)
        places.run(name).receipt.write_bytes(msgspec.json.encode(receipt))
        assert call(["report"]) == Exit.OK
        told = capsys.readouterr()
        assert f"{words}{name}" in told.err.splitlines()
        assert name in told.out


def test_the_newest_is_the_one_that_ended_last_not_the_one_that_began_last(
    run_id: str, plan: Plan, places: Places, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """A long run that is done now is what somebody wants to read of."""
    later = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)
    for name in (later, run_id):
        end(name, Edges(places, Quiet(), make=lambda _launch: Paper()))
    capsys.readouterr()
    assert call(["report"]) == Exit.OK
    assert capsys.readouterr().err == f"The last to end of 2 runs with a receipt: {run_id}\n"


def test_adding_up_takes_a_period(capsys: pytest.CaptureFixture[str]) -> None:
    """Of one run there is nothing to add up, and an option that does nothing is refused."""
    assert call(["report", "--by", "model"]) == Exit.REFUSED
    assert "Hint: rentune report --since 30d --by model" in capsys.readouterr().err


def test_what_goes_on_is_named_where_it_is_not_counted(run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A sum that leaves something out says so."""
    assert run_id
    assert call(["report", "--since", "1d"]) == Exit.OK
    assert "1 run of this period goes on and is not counted: rentune ls" in capsys.readouterr().err.splitlines()


def test_dollars_that_nobody_bills_are_marked_wherever_they_stand(receipt: Receipt) -> None:
    """A rehearsal at an assumed price, and a rented machine."""
    [compute, *_] = receipt.bill
    paid = msgspec.structs.replace(receipt, bill=(msgspec.structs.replace(compute, metered_usd=Decimal("0.05")),))
    assert headline(paid).startswith("trained and gone: $0.0500 (assumed) in ")
    rented = msgspec.structs.replace(paid, offer="aws/us-east-1/g6.xlarge/on_demand")
    assert headline(rented).startswith("trained and gone: $0.0500 in ")


def test_a_report_that_cannot_be_written_or_read_is_one_sentence(
    run_id: str, places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is not there, a folder itself, and a receipt that a crash has torn."""
    end(run_id, Edges(places, Quiet(), make=lambda _launch: Paper()))
    for target in (tmp_path / "nowhere" / "page.html", tmp_path):
        assert call(["report", run_id, "--html", str(target)]) == Exit.REFUSED
        assert f"Error: {target} can't be written: " in capsys.readouterr().err
    page = tmp_path / "page.html"
    assert call(["report", run_id, "--html", str(page)]) == Exit.OK
    ending, where = capsys.readouterr().out.splitlines()  # the page has the rest
    assert (ending.partition(":")[0], where) == ("interrupted and gone", f"Report:  {page}")
    places.run(run_id).receipt.write_text("{")
    assert call(["report", run_id]) == Exit.REFUSED
    assert "is damaged." in capsys.readouterr().err
