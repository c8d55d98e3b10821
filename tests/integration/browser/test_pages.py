"""Every page in a real browser: its main path, no fault for a screen reader, and no text of a user that runs."""

import json
import re
from typing import Literal
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect
from tests.factories.console import CANARY, Console, ConsoleData, open_console
from tests.factories.live_endpoints import add_live_endpoint

from windlass.domain.specs import Task
from windlass.domain.usage import RequestGroup
from windlass_api.console import FOLDER

PAGES = {
    "jobs": "/projects/ours/jobs",
    "job": "/projects/ours/jobs/{running}",
    "finished-job": "/projects/ours/jobs/{succeeded}",
    "datasets": "/projects/ours/datasets",
    "dataset": "/projects/ours/datasets/hostile",
    "models": "/projects/ours/models",
    "model": "/projects/ours/models/classifier",
    "endpoints": "/projects/ours/endpoints",
    "endpoint": "/projects/ours/endpoints/texts",
    "quota": "/quota",
    "first-steps": "/projects/empty/jobs",
    "upload": "/projects/ours/upload?example=true",
    "new-job": "/projects/ours/new-job",
    "run-with-changes": "/projects/ours/new-job?from={succeeded}",
    "compare": "/projects/ours/compare?jobs={succeeded},{running}",
    "usage": "/projects/ours/usage",
    "members": "/projects/ours/members",
    "keys": "/keys",
    "audit": "/audit",
}
_FIRST_LOAD_BYTES = 350_000
WRITING: list[tuple[str, Literal["button", "link", "tab"], str]] = [
    (PAGES["jobs"], "link", "New job"),
    (PAGES["finished-job"], "link", "Run with changes"),
    (PAGES["datasets"], "link", "Upload data"),
    (PAGES["dataset"], "link", "Upload a version"),
    (PAGES["dataset"], "tab", "Clean and split"),
    (PAGES["dataset"], "link", "Train on it"),
    (PAGES["model"], "button", "Serve"),
    (PAGES["endpoint"], "button", "Stop it"),
    (PAGES["endpoint"], "button", "Delete it"),
]
"""Where an editor can change something: page, role and name of the link or button."""


@pytest.mark.parametrize("looks", ["wide", "phone"])
def test_no_page_has_a_fault_and_none_runs_what_users_wrote(browser: Browser, data: ConsoleData, looks: str) -> None:
    faults = []
    phone = looks == "phone"  # in dark colours, so that both are tested
    with open_console(browser, data, data.admin_key, phone=phone, dark=phone) as console:
        for name, path in PAGES.items():
            console.open(path.format(**data.jobs))
            faults += [f"{name}: {fault}" for fault in console.faults()]
            console.picture(f"{name}-{looks}")
            wider = console.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wider <= 0, f"{name} is {wider} pixels wider than the window"
            console.require_safe()
    assert faults == []


def test_sign_in_with_a_key_leads_to_the_page_that_was_asked_for(browser: Browser, data: ConsoleData) -> None:
    with open_console(browser, data) as console:
        page = console.page
        console.open("/projects/ours/models")
        expect(page.get_by_role("heading", name="Sign in to Windlass")).to_be_visible()
        assert console.faults() == []
        console.picture("sign-in-wide")
        page.get_by_label("API key").fill("wlk_wrong")
        page.get_by_role("button", name="Sign in with the key").click()
        expect(page.get_by_role("alert")).to_contain_text("What to do")
        expect(page.get_by_role("alert")).to_contain_text(re.compile("Request [0-9a-f]{16}"))
        page.get_by_label("API key").fill(data.admin_key)
        page.get_by_role("button", name="Sign in with the key").click()
        expect(page.get_by_role("heading", name="Models")).to_be_visible()
        assert page.url.endswith("/projects/ours/models")
        page.get_by_role("button", name="admin").click()
        page.get_by_role("menuitem", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in to Windlass")).to_be_visible()
        console.open("/projects/ours/jobs")
        expect(page.get_by_role("heading", name="Sign in to Windlass")).to_be_visible()
        console.require_safe()


def test_a_link_signs_the_browser_in_and_leaves_no_code_in_the_address(browser: Browser, data: ConsoleData) -> None:
    path = data.harness.client.post("/v1/auth/links").json()["path"]
    with open_console(browser, data) as console:
        page = console.page
        page.goto(data.url + path)
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        page.go_back()
        assert "code=" not in page.url
        console.require_safe()
    with open_console(browser, data) as console:
        console.page.goto(data.url + path)
        expect(console.page.get_by_role("alert")).to_contain_text("the session is not valid")


def test_a_viewer_sees_no_button_that_the_server_would_refuse(browser: Browser, data: ConsoleData) -> None:
    for key, buttons in ((data.viewer_key, 0), (data.editor_key, 1)):
        with open_console(browser, data, key) as console:
            console.open(PAGES["job"].format(**data.jobs))
            expect(console.page.get_by_role("button", name="Cancel the job")).to_have_count(buttons)
            console.open(PAGES["finished-job"].format(**data.jobs))
            expect(console.page.get_by_role("button", name="Run again")).to_have_count(buttons)
            for path, role, name in WRITING:
                console.open(path.format(**data.jobs))
                expect(console.page.get_by_role(role, name=name, exact=True)).to_have_count(buttons)
            console.open("/projects/ours/members")
            expect(console.page.get_by_role("button", name="Remove")).to_have_count(0)
            console.open("/quota")
            expect(console.page.get_by_role("article", name="Quota of ours")).to_be_visible()
            expect(console.page.get_by_role("button", name="Change")).to_have_count(0)
            expect(console.page.get_by_role("link", name="Audit")).to_have_count(0)
            expect(console.page.get_by_role("article", name="Quota of empty")).to_have_count(0)
            console.require_safe()


def test_the_list_of_jobs_follows_the_server_and_filters(console: Console, data: ConsoleData) -> None:
    page = console.page
    console.open(PAGES["jobs"])
    rows = page.get_by_role("list", name="Jobs").get_by_role("listitem")
    expect(rows).to_have_count(3)
    expect(rows.filter(has_text="second try")).to_contain_text("1st in queue")
    expect(rows.filter(has_text=CANARY)).to_contain_text("40 %")
    expect(rows.filter(has_text=CANARY).get_by_role("img", name="Training loss")).to_be_visible()
    job = data.harness.submit("ours", key="live", name="appears")
    expect(rows.filter(has_text="appears")).to_be_visible()
    data.harness.client.post(f"/v1/projects/ours/jobs/{job['id']}:cancel").raise_for_status()
    data.harness.run_worker_once()
    expect(rows.filter(has_text="appears")).to_contain_text("Cancelled")
    page.get_by_role("combobox", name="State").click()
    page.get_by_role("option", name="succeeded").click()
    expect(rows).to_have_count(1)
    assert page.url.endswith("?state=succeeded")
    page.get_by_label("Name or id").fill("second try")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("Queued")


def test_a_long_list_has_only_the_visible_rows_in_the_document(console: Console, data: ConsoleData) -> None:
    harness = data.harness
    harness.create_project("busy")
    harness.create_dataset("busy")
    for number in range(120):
        harness.submit("busy", key=f"k{number}", name=f"number {number}")
    console.open("/projects/busy/jobs")
    page = console.page
    rows = page.get_by_role("list", name="Jobs").get_by_role("listitem")
    expect(rows.first).to_contain_text("number 119")
    assert rows.count() < 60
    page.wait_for_function(
        "() => { window.scrollTo(0, document.body.scrollHeight); return /number 0\\b/.test(document.body.innerText); }"
    )
    expect(rows.filter(has=page.get_by_text("number 0", exact=True))).to_be_visible()
    assert rows.count() < 60


def test_a_job_shows_stages_live_curves_its_log_and_its_end(console: Console, data: ConsoleData) -> None:
    page = console.page
    console.open(PAGES["job"].format(**data.jobs))
    stages = page.get_by_role("region", name="Timeline").get_by_role("listitem")
    expect(stages.filter(has_text="Training")).to_have_class("active")
    expect(stages.filter(has_text="Queued")).to_contain_text(" s")
    curve = page.get_by_role("figure").filter(has_text="train_loss")
    expect(curve).to_contain_text("at step 40")
    assert data.run.report(1, {"type": "metric", "name": "train_loss", "step": 50, "value": 0.25}).status_code == 200
    expect(curve).to_contain_text("0.25 at step 50")
    expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("aria-valuenow", "50")
    page.get_by_role("tab", name="Log").click()
    log = page.get_by_role("region", name="Log")
    expect(log).to_contain_text("line 299 " + CANARY)
    assert data.run.report(1, {"type": "log", "text": "a new line"}).status_code == 200
    expect(log).to_contain_text("a new line")
    page.get_by_label("Find lines").fill("LINE 17 ")
    expect(log).to_contain_text("line 17 " + CANARY)
    expect(log).not_to_contain_text("line 18")
    assert console.faults() == []
    page.get_by_role("tab", name="Events").click()
    expect(page.get_by_role("tabpanel", name="Events")).to_contain_text(CANARY)
    page.get_by_role("tab", name="Spec").click()
    expect(page.get_by_role("tabpanel", name="Spec")).to_contain_text('"base_model": "tiny"')
    console.require_safe()


def test_a_job_is_cancelled_after_a_question(console: Console, data: ConsoleData) -> None:
    job = data.harness.submit("ours", key="to cancel", name="to cancel")
    console.open(f"/projects/ours/jobs/{job['id']}")
    page = console.page
    page.get_by_role("button", name="Cancel the job").click()
    dialog = page.get_by_role("dialog", name="Cancel this job?")
    expect(dialog).to_be_visible()
    assert console.faults() == []
    dialog.get_by_role("button", name="Keep it").click()
    expect(dialog).to_be_hidden()
    assert data.harness.client.get(f"/v1/projects/ours/jobs/{job['id']}").json()["state"] == "queued"
    page.get_by_role("button", name="Cancel the job").click()
    dialog.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("main").get_by_text("Cancelled", exact=True)).to_be_visible()
    page.get_by_role("button", name="Run again").click()
    page.wait_for_url(lambda url: job["id"] not in url)
    again = page.url.rpartition("/")[2]
    assert data.harness.client.get(f"/v1/projects/ours/jobs/{again}").json()["retry_of"] == job["id"]
    data.harness.client.post(f"/v1/projects/ours/jobs/{again}:cancel").raise_for_status()
    console.require_safe()


def test_rows_of_a_dataset_are_filtered_and_its_report_shown(console: Console, data: ConsoleData) -> None:
    page = console.page
    console.open(PAGES["dataset"])
    rows = page.get_by_role("region", name="Rows").locator("tbody tr")
    expect(rows).to_have_count(4)
    page.get_by_placeholder("Find text").fill(CANARY + " 2")
    expect(rows).to_have_count(1)
    page.get_by_placeholder("Find text").fill("")
    page.get_by_role("combobox", name="Label").click()
    page.get_by_role("option", name="b", exact=True).click()
    expect(rows).to_have_count(2)
    expect(page.get_by_text("2 matching rows are shown; the split has")).to_be_visible()
    page.get_by_text("validation", exact=True).click()
    expect(rows).to_have_count(2)
    page.get_by_role("tab", name="Report").click()
    expect(page.get_by_role("region", name="Findings")).to_contain_text(CANARY)
    expect(page.get_by_role("region", name="Personal data")).to_contain_text("2 rows")
    lengths = page.get_by_role("list", name="Tokens of the rows of train").get_by_role("listitem")
    expect(lengths).to_have_text(["0 to 8 tokens: 3 rows", "8 to 16 tokens: 1 row"])
    assert console.faults() == []
    console.picture("report-wide")
    console.require_safe()


def test_a_model_shows_its_scores_and_leads_to_its_job(console: Console, data: ConsoleData) -> None:
    console.open(PAGES["models"])
    page = console.page
    page.get_by_role("link", name="classifier").click()
    expect(page.get_by_role("region", name="Scores by version")).to_contain_text("0.93")
    page.get_by_role("textbox", name="Alias").fill("champion")
    page.get_by_role("button", name="Set the alias").click()
    expect(page.get_by_role("region", name="Aliases")).to_contain_text("champion is version 1")
    page.get_by_role("button", name="Model card").click()
    expect(page.get_by_label("Model card of version 1")).to_have_text(f"# classifier {CANARY}")
    assert console.faults() == []
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download as Markdown").click()
    assert downloading.value.suggested_filename == "classifier-1.md"
    assert downloading.value.path().read_text() == f"# classifier {CANARY}\n"
    console.require_safe()
    lineage = page.get_by_role("list", name="Lineage")
    expect(lineage).to_contain_text("hostile@1")
    lineage.get_by_role("link", name=data.jobs["succeeded"]).click()
    expect(page.get_by_role("heading", name="nightly")).to_be_visible()


def test_the_playground_classifies_and_shows_the_request(console: Console, data: ConsoleData) -> None:
    page = console.page
    console.open(PAGES["endpoint"])
    page.get_by_label("Texts to classify").fill(CANARY)
    page.get_by_role("button", name="Classify").click()
    answers = page.get_by_role("list", name="Answers")
    expect(answers).to_contain_text("75.0 %")
    expect(answers).to_contain_text(CANARY)
    snippets = page.get_by_role("region", name="The same from a program")
    expect(snippets.get_by_role("tabpanel", name="curl")).to_contain_text("Authorization: Bearer")
    snippets.get_by_role("tab", name="Python").click()
    expect(snippets.get_by_role("tabpanel", name="Python")).to_contain_text("client.endpoints.predict")
    assert console.faults() == []
    console.picture("playground-wide")
    data.model.status = 500
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("alert")).to_contain_text("Request")
    data.model.status = 200
    console.require_safe()


def test_an_endpoint_shows_requests_errors_and_latencies_over_time(console: Console, data: ConsoleData) -> None:
    usage = data.harness.app_context.request_usage
    add_live_endpoint(data.harness, data.project, "watched", Task.TEXT_CLASSIFICATION)
    group = RequestGroup(data.project, "key_1", "watched", "m", 1)
    for outcome, seconds in (("succeeded", 0.045), ("succeeded", 4.9), ("failed", 1), ("rejected", 1)):
        usage.count(group, outcome, seconds=seconds)  # type: ignore[arg-type]  # mypy infers str
    usage.flush()
    console.open("/projects/ours/endpoints/watched")
    region = console.page.get_by_role("region", name="Requests over time")
    expect(region).to_contain_text("Failed (5xx)1")
    expect(region).to_contain_text("Refused (4xx)1")
    for name in ("Requests", "Errors", "Latency in milliseconds"):
        figure = region.get_by_role("figure").filter(has_text=name)
        expect(figure.locator("canvas")).to_be_visible()
    assert console.faults() == []
    console.picture("endpoint-traffic-wide")
    with console.page.expect_response(lambda reply: "/traffic" in reply.url) as answered:
        region.get_by_text("Week", exact=True).click()
    assert answered.value.json()["step_seconds"] == 3600
    expect(region.get_by_role("figure").filter(has_text="Errors")).to_be_visible()
    usage.count(group, "failed")
    usage.flush()
    expect(region).to_contain_text("Failed (5xx)2")
    console.require_safe()


def test_the_quota_page_says_who_waits_and_why(console: Console, data: ConsoleData) -> None:
    console.open("/quota")
    quota = console.page.get_by_role("article", name="Quota of ours")
    expect(quota).to_contain_text("2 of 2 in use")
    waiting = quota.get_by_role("list", name="Waiting jobs of ours")
    expect(waiting).to_contain_text(f"second try {data.jobs['queued']}")
    expect(waiting).to_contain_text("in queue")


def test_a_lost_server_is_told_and_recovered_from(console: Console, data: ConsoleData) -> None:
    page = console.page
    console.open(PAGES["jobs"])
    lost = page.get_by_text("The server does not answer.")
    page.route("**/v1/**", lambda route: route.abort())
    expect(lost).to_be_visible()
    expect(page.get_by_role("list", name="Jobs")).to_contain_text("nightly")
    page.unroute_all()
    expect(lost).to_have_count(0)


def test_a_session_that_ends_leads_to_the_sign_in(console: Console, data: ConsoleData) -> None:
    page = console.page
    console.open(PAGES["jobs"])
    page.context.clear_cookies()
    expect(page.get_by_role("heading", name="Sign in to Windlass")).to_be_visible()


def test_the_first_page_loads_at_most_350_kb(console: Console, data: ConsoleData) -> None:
    sizes: dict[str, int] = {}
    page = console.page

    def measure(url: str) -> None:
        path = url.removeprefix(data.url)
        file = FOLDER / path.lstrip("/")
        small = file.with_name(file.name + ".gz")
        if file.is_file():
            sizes[path] = (small if small.is_file() else file).stat().st_size

    page.on("request", lambda request: measure(request.url))
    console.open(PAGES["jobs"])
    assert any(path.endswith(".js") for path in sizes), sizes
    assert any(path.endswith(".css") for path in sizes), sizes
    assert sum(sizes.values()) <= _FIRST_LOAD_BYTES, json.dumps(sizes, indent=1)


def test_every_user_of_a_machine_reads_the_built_files(data: ConsoleData) -> None:
    """In the image the server is another user than the one that has built them."""
    built = [FOLDER, *FOLDER.rglob("*")]
    assert len(built) > 10
    assert [path for path in built if path.stat().st_mode & 0o777 != (0o755 if path.is_dir() else 0o644)] == []


def test_no_file_is_loaded_from_another_host(browser: Browser, data: ConsoleData) -> None:
    hosts = set()
    with open_console(browser, data, data.admin_key) as console:
        console.page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        for path in PAGES.values():
            console.open(path.format(**data.jobs))
    assert hosts == {data.url.removeprefix("http://")}


@pytest.mark.parametrize("to", ["//example.com/", "/\\example.com", "/\t/example.com", "https://example.com/"])
def test_the_sign_in_leads_to_no_other_host(browser: Browser, data: ConsoleData, to: str) -> None:
    with open_console(browser, data) as console:
        page = console.page
        page.route(re.compile(r"^https?://example\.com"), lambda route: route.abort())
        page.goto(f"{data.url}/sign-in?to={quote(to)}")
        page.get_by_label("API key").fill(data.admin_key)
        page.get_by_role("button", name="Sign in with the key").click()
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        assert page.url.startswith(data.url)
