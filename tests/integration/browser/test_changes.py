"""What a user changes in the console: quota, keys, members, budget, endpoints; and the comparison of jobs."""

import gzip
import hashlib
import json

import pytest
from playwright.sync_api import Browser, FilePayload, expect
from tests.factories.console import CANARY, Console, ConsoleData, open_console
from tests.factories.live_endpoints import add_live_endpoint

from windlass.domain.specs import Task
from windlass.domain.storage_layout import upload_key


def test_a_quota_change_is_tried_before_it_is_applied(console: Console, data: ConsoleData) -> None:
    page, client = console.page, data.harness.client
    tag = {"If-Match": client.get("/v1/pools/local").headers["ETag"]}
    client.patch("/v1/pools/local", json={"capacity": 8}, headers=tag).raise_for_status()
    console.open("/quota")
    quota = page.get_by_role("article", name="Quota of ours")
    quota.get_by_role("button", name="Change").click()
    dialog = page.get_by_role("dialog", name="Quota of ours in")
    apply = dialog.get_by_role("button", name="Apply it")
    expect(apply).to_be_disabled()
    dialog.get_by_label("Own GPUs or CPU slots").fill("4")
    dialog.get_by_role("button", name="Try it").click()
    expect(dialog.get_by_role("status")).to_contain_text(f"It starts 1 job: {data.jobs['queued']} of ours.")
    assert client.get("/v1/projects/ours/quotas").json()["items"][0]["nominal"] == 2
    dialog.get_by_label("Own GPUs or CPU slots").fill("3")
    expect(apply).to_be_disabled()
    dialog.get_by_role("button", name="Try it").click()
    expect(dialog.get_by_role("status")).to_contain_text("It starts no job.")
    assert console.faults() == []
    console.picture("quota-change-wide")
    apply.click()
    expect(quota).to_contain_text("2 of 3 in use")
    console.require_safe()


def test_jobs_are_compared_by_curves_specs_and_scores(console: Console, data: ConsoleData) -> None:
    page = console.page
    console.open(f"/projects/ours/jobs/{data.jobs['succeeded']}")
    page.get_by_role("link", name="Compare").click()
    page.get_by_role("combobox", name="Jobs").click()
    page.get_by_role("option", name=data.jobs["running"]).click()
    page.keyboard.press("Escape")
    differing = page.get_by_role("region", name="Differing parameters")
    expect(differing.get_by_role("row").filter(has_text="resources.workers")).to_contain_text("2")
    expect(differing).not_to_contain_text("base model")
    expect(page.get_by_role("region", name="Scores of the jobs")).to_contain_text("0.93")
    curve = page.get_by_role("figure").filter(has_text="train_loss")
    expect(curve.get_by_role("listitem")).to_have_count(2)
    expect(curve.get_by_role("listitem").nth(1)).to_contain_text(CANARY)
    assert console.faults() == []
    console.picture("compare-two-wide")
    console.require_safe()


def test_a_job_runs_again_with_changes(console: Console, data: ConsoleData) -> None:
    page = console.page
    console.open(f"/projects/ours/jobs/{data.jobs['succeeded']}")
    page.get_by_role("link", name="Run with changes").click()
    expect(page.get_by_label("Name of the job")).to_have_value("nightly")
    page.get_by_label("Name of the job").fill("changed")
    page.get_by_text("LoRA").click()
    page.get_by_label("Rank").fill("4")
    page.get_by_label("Epochs").fill("7")
    page.get_by_text("Conditions and serving").click()
    page.get_by_label("Gates").fill("weighted_f1 >= 0.6")
    expect(page.get_by_role("region", name="What the server would do")).to_contain_text("Would wait")
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_role("heading", name="changed")).to_be_visible()
    spec = data.harness.client.get(f"/v1/projects/ours/jobs/{page.url.rpartition('/')[2]}").json()["spec"]
    assert (spec["name"], spec["method"]["type"], spec["method"]["rank"]) == ("changed", "lora", 4)
    assert (spec["training"]["epochs"], spec["model"]) == (7, "classifier")
    assert spec["evaluation"]["gates"] == [{"metric": "weighted_f1", "operator": ">=", "threshold": 0.6}]


def test_a_spec_that_the_server_refuses_is_explained(console: Console, data: ConsoleData) -> None:
    page = console.page
    console.open("/projects/ours/new-job")
    page.get_by_label("Workers").fill("4")
    expect(page.get_by_role("region", name="What the server would do")).to_contain_text("Would never start")
    page.get_by_role("textbox", name="Model", exact=True).fill("not a name")
    expect(page.get_by_role("alert")).to_contain_text("model")
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_role("alert").filter(has_text="Request")).to_have_count(2)
    console.require_safe()


def test_an_answer_is_streamed_and_compared_with_another_endpoint(console: Console, data: ConsoleData) -> None:
    for name in ("tuned", "base"):
        add_live_endpoint(data.harness, data.project, name, Task.CHAT)
    parts = [{"choices": [{"delta": {"content": text}}]} for text in ("Hello ", CANARY)]
    data.model.stream = "".join(f"data: {json.dumps(part)}\n\n" for part in parts).encode() + b"data: [DONE]\n\n"
    page = console.page
    console.open("/projects/ours/endpoints/tuned")
    page.get_by_role("combobox", name="Compare with").click()
    page.get_by_role("option", name="base").click()
    page.get_by_label("Message", exact=True).fill("Who are you?")
    page.get_by_role("button", name="Send").click()
    for name in ("tuned", "base"):
        talk = page.get_by_role("region", name=f"Conversation with {name}")
        expect(talk.get_by_role("listitem").nth(0)).to_have_text("Who are you?")
        expect(talk.get_by_role("listitem").nth(1)).to_have_text(f"Hello {CANARY}")
    snippets = page.get_by_role("region", name="The same from a program")
    snippets.get_by_role("tab", name="openai").click()
    expect(snippets.get_by_role("tabpanel", name="openai")).to_contain_text("/v1/projects/ours/endpoints/tuned")
    assert console.faults() == []
    console.picture("chat-wide")
    data.model.stream = b""
    console.require_safe()


def test_a_version_is_served_changed_stopped_and_deleted(console: Console, data: ConsoleData) -> None:
    page, endpoint = console.page, "/v1/projects/ours/endpoints/served"
    console.open("/projects/ours/models/classifier")
    page.get_by_role("button", name="Serve", exact=True).click()
    dialog = page.get_by_role("dialog", name="Serve classifier@1")
    dialog.get_by_label("Name of the endpoint").fill("served")
    dialog.get_by_role("button", name="Serve it").click()
    expect(page.get_by_role("heading", name="served", exact=True)).to_be_visible()
    page.get_by_label("Most replicas").fill("3")
    with page.expect_response(lambda reply: reply.request.method == "PATCH"):
        page.get_by_role("button", name="Save").click()
    assert data.harness.client.get(endpoint).json()["spec"]["replicas"]["max"] == 3
    page.get_by_role("button", name="Stop it").click()
    expect(page.get_by_role("button", name="Start it")).to_be_visible()
    assert data.harness.client.get(endpoint).json()["spec"]["stopped"]
    page.get_by_role("button", name="Delete it").click()
    page.get_by_role("dialog", name="Delete served?").get_by_role("button", name="Delete it").click()
    expect(page.get_by_role("heading", name="Endpoints")).to_be_visible()
    assert data.harness.client.get(endpoint).json()["state"] == "deleting"
    console.require_safe()


def test_a_key_is_created_shown_once_and_revoked(console: Console, data: ConsoleData) -> None:
    page = console.page
    console.open("/keys")
    page.get_by_label("Name").fill("of the test")
    page.get_by_role("button", name="Create the key").click()
    shown = page.get_by_role("status").filter(has_text="Copy it now")
    secret = shown.locator("pre").text_content() or ""
    client = data.harness.client_for_key(secret)
    assert client.get("/v1/whoami").json()["user"] == "admin"
    row = page.get_by_role("region", name="API keys").get_by_role("row").filter(has_text="of the test")
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(row).to_contain_text("Revoked")
    console.open("/keys")
    expect(page.locator("body")).not_to_contain_text(secret)
    console.require_safe()


def test_members_and_accounts_are_managed(console: Console, data: ConsoleData) -> None:
    page = console.page
    console.open("/projects/ours/members")
    page.get_by_role("textbox", name="Name", exact=True).fill("nina")
    page.get_by_role("region", name="Users and groups").get_by_role("button", name="Add").click()
    row = page.get_by_role("region", name="Members").get_by_role("row").filter(has_text="nina")
    row.get_by_role("combobox", name="Role of nina").click()
    page.get_by_role("option", name="Editor").click()
    expect(row.get_by_role("combobox", name="Role of nina")).to_have_value("Editor: also uploads, trains and serves")
    row.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)
    page.get_by_label("Name of the account").fill("nightly")
    page.get_by_role("region", name="Accounts of programs").get_by_role("button", name="Add").click()
    account = page.get_by_role("region", name="Service accounts").get_by_role("row").filter(has_text="nightly")
    account.get_by_role("button", name="New key").click()
    secret = account.locator("pre").text_content() or ""
    assert data.harness.client_for_key(secret).get("/v1/whoami").status_code == 200
    console.require_safe()


def test_the_audit_log_is_filtered(console: Console) -> None:
    page = console.page
    console.open("/audit")
    entries = page.get_by_role("region", name="Entries").locator("tbody").get_by_role("row")
    expect(entries.filter(has_text="job.create").first).to_be_visible()
    page.get_by_label("Action").fill("dataset.update")
    expect(entries.filter(has_text="job.create")).to_have_count(0)
    expect(entries.first).to_contain_text("dataset.update")
    console.require_safe()


def test_a_budget_is_set_and_its_use_shown(console: Console) -> None:
    page = console.page
    console.open("/projects/ours/usage")
    page.get_by_label("GPU-hours of a month").fill("5")
    page.get_by_role("button", name="Save the budget").click()
    expect(page.get_by_role("region", name="Budget of each month")).to_contain_text("of 5")
    expect(page.get_by_role("progressbar", name="Used part of the budget")).to_be_visible()
    console.require_safe()


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("a.csv", f'text;label\n"one; ""two""";{CANARY}\n', 'one; "two"'),
        ("a.tsv", f"text\tlabel\none\t{CANARY}\n", "one"),
        ("a.csv", f'text,label\r\n"two\r\nlines",\'{CANARY}\r\n', "two\r\nlines"),
        ("a.jsonl", json.dumps({"text": "one", "label": CANARY}) + "\n", "one"),
        ("a.json", json.dumps([{"text": "one", "label": CANARY}]), "one"),
        ("a.csv.gz", f'text;label\n"one; ""two""";{CANARY}\n', 'one; "two"'),
        ("a.jsonl.gz", json.dumps({"text": "one", "label": CANARY}) + "\n", "one"),
    ],
)
def test_the_first_rows_of_a_file_are_shown_as_text(console: Console, name: str, content: str, shown: str) -> None:
    page = console.page
    console.open("/projects/ours/upload")
    written = gzip.compress(content.encode()) if name.endswith(".gz") else content.encode()
    page.get_by_label("Files", exact=True).set_input_files({"name": name, "mimeType": "text/plain", "buffer": written})
    row = page.get_by_role("region", name="First rows").locator("tbody").get_by_role("row")
    expect(row).to_have_count(1)
    expect(row.get_by_role("cell").nth(0)).to_have_text(shown.replace("\r\n", " "))
    expect(row).to_contain_text(CANARY)
    expect(page.get_by_role("button", name="Upload")).to_be_enabled()
    console.require_safe()


def test_the_first_rows_of_a_large_compressed_file_are_shown(console: Console) -> None:
    page = console.page
    console.open("/projects/ours/upload")
    rows = "".join(f"text \N{SNOWMAN} {number},label\n" for number in range(200_000))
    written = gzip.compress(f"text,label\n{rows}".encode())
    files = [
        {"name": "large.csv.gz", "mimeType": "text/plain", "buffer": written},
        {"name": "cut.csv.gz", "mimeType": "text/plain", "buffer": gzip.compress(b"text,label\n")[:-9]},
    ]
    page.get_by_label("Files", exact=True).set_input_files(files[0])  # type: ignore[arg-type]  # a dictionary with these keys
    row = page.get_by_role("region", name="First rows").locator("tbody").get_by_role("row")
    expect(row).to_have_count(5)
    expect(row.nth(4)).to_contain_text("text \N{SNOWMAN} 4")
    page.get_by_label("Files", exact=True).set_input_files(files[1])  # type: ignore[arg-type]  # as above
    expect(page.get_by_role("alert")).to_contain_text("not of this format")
    console.require_safe()


def test_several_files_become_one_version_with_a_split_each(console: Console, data: ConsoleData) -> None:
    page = console.page
    console.open("/projects/ours/upload")
    contents = (b"text,label\na,1\nb,2\n", b"text,label\nc,1\n", b"text,label\nd,2\n")
    names = ("many.csv", "held out.csv", "held-out.csv")
    chosen = [
        FilePayload(name=name, mimeType="text/csv", buffer=content)
        for name, content in zip(names, contents, strict=True)
    ]
    page.get_by_label("Files", exact=True).set_input_files(chosen)
    listed = page.get_by_role("region", name="Files", exact=True).get_by_role("listitem")
    expect(listed).to_have_count(3)
    page.get_by_role("combobox", name="Split of held out.csv").click()
    page.get_by_role("option", name="validation").click()
    expect(page.get_by_label("Rows to hold out for validation")).to_be_disabled()
    page.get_by_role("combobox", name="Split of held-out.csv").click()
    page.get_by_role("option", name="test").click()
    assert console.faults() == []
    console.picture("upload-files-wide")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="many")).to_be_visible()
    with data.harness.database.read() as uow:
        repos = uow.project(data.project)
        dataset = repos.datasets.get({"name": "many"})
        [upload] = repos.uploads.all({"dataset": dataset.id})
    assert [(file.name, file.split, file.entry.bytes) for file in upload.files] == [
        ("many.csv", None, 19),
        ("held-out.csv", "validation", 15),
        ("3-held-out.csv", "test", 15),
    ]
    for file, content in zip(upload.files, contents, strict=True):
        assert file.entry.sha256 == hashlib.sha256(content).hexdigest()
        assert (data.harness.store_folder / upload_key(upload, file.name)).read_bytes() == content
    console.require_safe()


def test_hostile_names_of_columns_are_text(console: Console) -> None:
    page = console.page
    console.open("/projects/ours/upload")
    content = f'"{CANARY.replace(chr(34), chr(34) * 2)}",b\n1,2\n'.encode()
    page.get_by_label("Files", exact=True).set_input_files({"name": "a.csv", "mimeType": "text/csv", "buffer": content})
    page.get_by_role("combobox", name="Column of text").click()
    page.get_by_role("option", name=CANARY).click()
    expect(page.get_by_role("columnheader").first).to_have_text(f"{CANARY} is the text")
    console.require_safe()


def test_a_viewer_gets_no_form(browser: Browser, data: ConsoleData) -> None:
    with open_console(browser, data, data.viewer_key) as console:
        for path, text in (("upload", "You may not upload data"), ("new-job", "You may not start jobs")):
            console.page.goto(f"{data.url}/projects/ours/{path}")
            expect(console.page.get_by_role("heading", name=text)).to_be_visible()
            expect(console.page.get_by_role("textbox")).to_have_count(0)
