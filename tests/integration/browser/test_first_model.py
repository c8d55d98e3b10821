"""From a CSV file to an answer of the tuned model in the browser alone, with a real server that trains and serves."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from tests.e2e.servers import ServerProcess, server
from tests.factories.console import PHONE, SECONDS, WIDE, Console, open_window
from tests.factories.tiny_models import tiny_encoder

pytestmark = pytest.mark.timeout(900)
_TRAINED_SECONDS = 400
_PART_BYTES = 2 << 20
"""What the page sends in one request."""


@pytest.fixture(scope="module")
def running(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """An embedded server, as ``windlass up`` starts it, with a small base model."""
    expect.set_options(timeout=SECONDS * 1000)
    folder = tmp_path_factory.mktemp("first-model")
    with server(folder / "home") as running:
        client = running.start()
        client.base_models.add("tiny", str(tiny_encoder(folder / "tiny")))
        client.base_models.wait("tiny")
        yield running


@pytest.fixture
def page(browser: Browser, running: ServerProcess) -> Iterator[Page]:
    """A window in which a link of the command line has signed the admin in."""
    client = running.clients[-1]
    with open_window(browser, client.connection.url) as console:
        console.page.goto(f"{client.connection.url}{client.sessions.create_link().path}")
        expect(console.page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
        yield console.page
        assert console.errors == []


def tickets(path: Path, filler: int = 0) -> Path:
    """Write a file whose columns have other names than the fields, with duplicates and incomplete rows."""
    good, bad = ("good", "fine", "great"), ("bad", "awful", "poor")
    things = ("motor", "screen", "sound", "price")
    rows = [
        {"id": number, "body": f"the {thing} is {'very ' * (number % 5)}{word} {number % 7}", "mood": mood}
        for number in range(20)
        for mood, words in (("happy", good), ("angry", bad))
        for thing in things
        for word in words
    ]
    rows += rows[:10]
    rows += [{"id": 9000 + number, "body": "", "mood": "happy"} for number in range(3)]
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["id", "body", "mood", "note"], delimiter=";")
        writer.writeheader()
        writer.writerows({**row, "note": "x" * filler} for row in rows)
    return path


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()


def check(page: Page, name: str) -> None:
    """Require that the page has no fault, and store screenshots at both widths."""
    console = Console(page, "", [])
    assert console.faults() == []
    for size, suffix in ((PHONE, "phone"), (WIDE, "wide")):
        page.set_viewport_size(size)  # type: ignore[arg-type]  # a dictionary with these keys
        wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wider <= 0, f"{name} is {wider} pixels wider than the window"
        console.picture(f"{name}-{suffix}")


def test_a_csv_file_becomes_a_model_that_answers_in_the_browser_alone(
    page: Page, running: ServerProcess, tmp_path: Path
) -> None:
    upload(page, tickets(tmp_path / "tickets.csv"))
    clean_and_split(page)
    start_job(page)
    first = page.url
    start_another_job_and_see_why_it_waits(page, running.clients[-1].pools.get("local").capacity)
    page.goto(first)
    watch(page)
    read_report_and_serve(page)
    classify(page)


def upload(page: Page, file: Path) -> None:
    page.get_by_role("link", name="Upload data").click()
    # A drop: a transfer of data with a file, as the browser makes it from a drag.
    content = file.read_text()
    transfer = page.evaluate_handle(
        "text => { const data = new DataTransfer(); data.items.add(new File([text], 'tickets.csv')); return data; }",
        content,
    )
    page.locator(".drop-zone").dispatch_event("drop", {"dataTransfer": transfer})
    expect(page.get_by_text("Choose the column of text and label.")).to_be_visible()
    expect(page.get_by_role("button", name="Upload")).to_be_disabled()
    choose(page, "Column of text", "body")
    choose(page, "Column of label", "mood")
    rows = page.get_by_role("region", name="First rows")
    expect(rows.get_by_role("columnheader", name="body is the text")).to_be_visible()
    expect(rows).to_contain_text("the motor is good 0")
    page.get_by_label("Rows to hold out for validation").fill("0")
    check(page, "first-upload")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="tickets")).to_be_visible()
    expect(page.get_by_role("region", name="Rows")).to_contain_text("the motor is good 0", timeout=120_000)


def clean_and_split(page: Page) -> None:
    page.get_by_role("tab", name="Clean and split").click()
    incomplete = page.get_by_label("Drop incomplete rows")
    expect(incomplete).to_have_accessible_description("drops 3 rows")
    duplicates = page.get_by_label("Drop duplicates")
    expect(duplicates).to_have_accessible_description("drops 12 rows")  # two of them are incomplete
    incomplete.check()
    duplicates.check()
    expect(page.get_by_text("493 rows now, 478 to 481 afterwards")).to_be_visible()
    page.get_by_label("Split all rows again").check()
    check(page, "first-clean")
    page.get_by_role("button", name="Make the new version").click()
    expect(page.get_by_role("combobox", name="Version")).to_have_value("Version 2")
    page.get_by_role("tab", name="Report").click(timeout=120_000)
    steps = page.get_by_role("region", name="Cleaning steps").get_by_role("listitem")
    expect(steps).to_have_count(3)
    expect(steps.nth(0)).to_contain_text("drops 3 rows, 490 remain")
    expect(steps.nth(1)).to_contain_text("drops 10 rows, 480 remain")


def start_job(page: Page) -> None:
    page.get_by_role("link", name="Train on it").click()
    expect(page.get_by_role("combobox", name="Dataset")).to_have_value("tickets@2")
    expect(page.get_by_role("combobox", name="Base model")).to_have_value("tiny")
    page.get_by_label("Name of the job").fill("first")
    page.get_by_label("Max steps").fill("1000")
    page.get_by_label("Batch size").fill("8")
    page.get_by_label("Learning rate").fill("0.01")
    predicted = page.get_by_role("region", name="What the server would do")
    expect(predicted).to_contain_text("Would start now")
    check(page, "first-new-job")
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_role("heading", name="first")).to_be_visible()


def start_another_job_and_see_why_it_waits(page: Page, slots: int) -> None:
    """It needs all slots of the project, of which the first job uses one."""
    page.get_by_role("link", name="Run with changes").click()
    expect(page.get_by_label("Max steps")).to_have_value("1000")
    page.get_by_label("Name of the job").fill("second")
    page.get_by_label("GPUs of a worker").fill(str(slots))
    expect(page.get_by_role("region", name="What the server would do")).to_contain_text("Would wait")
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_role("heading", name="second")).to_be_visible()
    job = page.url.rpartition("/")[2]
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Quota").click()
    waiting = page.get_by_role("list", name="Waiting jobs of default").get_by_role("listitem")
    expect(waiting).to_contain_text(job)
    expect(waiting).to_contain_text(re.compile("in queue|free"))
    check(page, "first-waiting")
    waiting.get_by_role("link", name=job).click()
    page.get_by_role("button", name="Cancel the job").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(page.locator("main").get_by_text("Cancelled", exact=True)).to_be_visible()


def watch(page: Page) -> None:
    expect(page.get_by_role("figure").filter(has_text="train_loss")).to_be_visible(timeout=_TRAINED_SECONDS * 1000)
    page.get_by_role("tab", name="Log").click()
    expect(page.get_by_role("region", name="Log")).not_to_be_empty()
    page.get_by_role("tab", name="Curves").click()
    expect(page.locator("main").get_by_text("Succeeded", exact=True)).to_be_visible(timeout=_TRAINED_SECONDS * 1000)
    expect(page.get_by_role("region", name="Scores on the held-out rows")).to_contain_text("accuracy")
    check(page, "first-trained")


def read_report_and_serve(page: Page) -> None:
    page.get_by_role("link", name="tickets-model@1").click()
    page.get_by_role("button", name="Read the report").click()
    report = page.frame_locator("iframe[title='Training report']")
    expect(report.get_by_role("heading").first).to_be_visible()
    expect(report.locator("body")).to_contain_text("tickets@2")
    page.get_by_role("button", name="Serve").click()
    dialog = page.get_by_role("dialog", name="Serve tickets-model@1")
    expect(dialog.get_by_label("Name of the endpoint")).to_have_value("tickets-model")
    dialog.get_by_role("button", name="Serve it").click()
    expect(page.get_by_role("heading", name="tickets-model", exact=True)).to_be_visible()
    expect(page.locator("main").get_by_text("Ready", exact=True)).to_be_visible(timeout=_TRAINED_SECONDS * 1000)


def classify(page: Page) -> None:
    page.get_by_label("Texts to classify").fill("the motor is great\nthe price is awful")
    page.get_by_role("button", name="Classify").click()
    answers = page.get_by_role("list", name="Answers").get_by_role("listitem")
    expect(answers.nth(0).locator(".labels > div").first).to_contain_text("happy")
    expect(answers.nth(1).locator(".labels > div").first).to_contain_text("angry")
    check(page, "first-classified")
    page.goto(page.url.replace("/endpoints/", "/models/"))
    expect(page.get_by_role("list", name="Lineage").get_by_role("link", name="tickets-model")).to_be_visible()


def begin_upload(page: Page, running: ServerProcess, file: Path) -> None:
    page.goto(f"{running.clients[-1].connection.url}/projects/default/upload")
    page.get_by_label("Files", exact=True).set_input_files(file)
    choose(page, "Column of text", "body")
    choose(page, "Column of label", "mood")
    page.get_by_role("button", name="Upload").click()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of some parts."""
    file = tickets(tmp_path / "large.csv", filler=20_000)
    assert file.stat().st_size > 4 * _PART_BYTES
    return file


def test_an_upload_goes_on_after_a_lost_server(page: Page, running: ServerProcess, large: Path) -> None:
    offsets: list[int] = []

    def send(route: Route) -> None:
        offsets.append(int(route.request.headers["upload-offset"]))
        if len(offsets) == 2:
            route.abort()
        else:
            route.continue_()

    page.route("**/uploads/*/files/*", send)
    begin_upload(page, running, large)
    expect(page.get_by_role("heading", name="large")).to_be_visible(timeout=120_000)
    assert offsets[:3] == [0, _PART_BYTES, _PART_BYTES], "the lost part is sent again"
    assert len(offsets) == len(set(offsets)) + 1, "no other part is sent twice"


def test_an_upload_goes_on_after_the_page_was_loaded_again(page: Page, running: ServerProcess, large: Path) -> None:
    offsets: list[int] = []
    lost = True

    def send(route: Route) -> None:
        offset = int(route.request.headers["upload-offset"])
        if lost and offset > 0:
            route.abort()
        else:
            offsets.append(offset)
            route.continue_()

    page.route("**/uploads/*/files/*", send)
    begin_upload(page, running, large)
    expect(page.get_by_text("The upload goes on when it does.")).to_be_visible(timeout=120_000)
    lost = False
    page.reload()
    begin_upload(page, running, large)
    expect(page.get_by_role("heading", name="large")).to_be_visible(timeout=120_000)
    assert offsets[:2] == [0, _PART_BYTES], "the first part is not sent again"
