"""What the tests of the console see: a platform with objects of each kind, and a browser's window on it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, expect
from tests.factories.browser import ARTIFACTS, REPOSITORY, axe
from tests.factories.live_endpoints import add_live_endpoint
from tests.fakes.harness import ADMIN, ControlPlaneHarness
from tests.fakes.model_server import StubModelServer

from windlass.domain.datasets import Finding, Histogram, Split, SplitReport, ValidationReport
from windlass.domain.specs import Task
from windlass.ports import BackendState
from windlass.services.keys import Keys

CANARY = '<img src=x onerror="window.attacked=1"><script>window.attacked=1</script>'
"""A text of a user that runs as a script if a page handles it as HTML."""
_GUIDE = {"first-upload-wide": "upload", "first-new-job-wide": "new-job", "first-waiting-wide": "quota"}
"""The pictures that the guide shows, by their names in the tests."""
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SECONDS = 60.0
"""How long a page may take on a busy machine."""


@dataclass
class ConsoleData:
    """A control plane and what it stores."""

    harness: ControlPlaneHarness
    model: StubModelServer
    url: str = ""
    jobs: dict[str, str] = field(default_factory=dict)
    """Id by state."""

    def fill(self) -> None:
        """Store objects of every kind."""
        harness = self.harness
        self.admin_key = harness.client.headers["Authorization"].removeprefix("Bearer ")
        self.project = harness.create_project("ours", gpus=2)
        harness.create_project("empty")
        harness.artifact_files["README.md"] = f"# classifier {CANARY}\n"
        harness.create_base_model()
        harness.create_dataset("ours", count=40)
        harness.create_dataset("ours", "hostile")
        self._make_hostile()
        for user, role in (("vera", "viewer"), ("eddy", "editor")):
            harness.client.put(f"/v1/projects/ours/members/{user}", json={"role": role})
        self.viewer_key = Keys(harness.deps, ADMIN).create("vera")[1]
        self.editor_key = Keys(harness.deps, ADMIN).create("eddy")[1]
        Keys(harness.deps, ADMIN).create("admin", name=CANARY)
        account = {"name": "bot", "role": "viewer", "description": CANARY}
        harness.client.post("/v1/projects/ours/service-accounts", json=account).raise_for_status()
        self._add_jobs()
        add_live_endpoint(harness, self.project, "texts", Task.TEXT_CLASSIFICATION)
        harness.serving.base_url = self.model.url
        scores = [{"label": CANARY, "score": 0.75}, {"label": "good", "score": 0.25}]
        self.model.answer = {"model": "m@1", "predictions": [scores], "truncated": []}

    def _make_hostile(self) -> None:
        """Replace the texts of the dataset ``hostile`` with the canary."""
        harness = self.harness
        path = "/v1/projects/ours/datasets/hostile"
        tag = harness.client.get(path).headers["ETag"]
        harness.client.patch(path, json={"description": CANARY}, headers={"If-Match": tag}).raise_for_status()
        finding = Finding(code="odd_text", severity="warning", message=CANARY, action=CANARY)
        stats = SplitReport(
            rows=4, labels={CANARY: 3, "b": 1}, tokens=Histogram(edges=(0, 8, 16), counts=(3, 1)), tokens_mean=5.5
        )
        report = ValidationReport(
            findings=(finding,), splits={Split.TRAIN: stats, Split.VALIDATION: stats}, personal_data={"email": 2}
        )
        with harness.database.write() as uow:
            repos = uow.project(self.project)
            dataset = repos.datasets.get({"name": "hostile"})
            version = repos.dataset_versions.get({"dataset": dataset.id})
            repos.dataset_versions.save(
                version.model_copy(update={"labels": (CANARY, "b"), "report": report, "warnings": 1})
            )
        for split in (Split.TRAIN, Split.VALIDATION):
            rows = [{"text": f"{CANARY} {number}", "label": (CANARY, "b")[number % 2]} for number in range(4)]
            target = harness.store_folder / version.prefix / f"{split}.jsonl"
            target.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def _add_jobs(self) -> None:
        """Add a job that has succeeded, one that runs and one that waits."""
        harness = self.harness
        done = harness.submit("ours", key="done", name="nightly", dataset="hostile", model="classifier")
        harness.clock.advance(42)
        harness.run_worker_once(2)
        run = harness.simulated_run(done)
        harness.clock.advance(4)
        run.acquire_attempt()
        harness.clock.advance(7)
        self._train(run, 100)
        harness.clock.advance(151)
        warning = {"code": "odd_text", "message": CANARY, "context": {}}
        assert run.finish(1, {"accuracy": 0.93, "weighted_f1": 0.91, "eval_loss": 0.31}, [warning]).status_code == 200
        harness.pipelines.end(run.name, BackendState.SUCCEEDED)
        harness.run_worker_once()
        path = "/v1/projects/ours/models/classifier"
        tag = harness.client.get(path).headers["ETag"]
        harness.client.patch(path, json={"description": CANARY}, headers={"If-Match": tag}).raise_for_status()
        running = harness.submit("ours", key="running", name=CANARY, resources={"workers": 2})
        harness.run_worker_once(2)
        self.run = harness.simulated_run(running)
        harness.clock.advance(5)
        self.run.acquire_attempt()
        harness.clock.advance(9)
        self._train(self.run, 40)
        waiting = harness.submit("ours", key="waiting", name="second try", resources={"workers": 2})
        harness.run_worker_once(2)
        self.jobs = {"succeeded": done["id"], "running": running["id"], "queued": waiting["id"]}

    def _train(self, run: Any, steps: int) -> None:
        context = {"steps": 100, "attempt": 1}
        items: list[dict[str, Any]] = [
            {"type": "event", "code": "training_started", "message": CANARY, "context": context}
        ]
        for step in range(1, steps + 1):
            items.append({"type": "metric", "name": "train_loss", "step": step, "value": 2 / (1 + step / 9)})
            items.append({"type": "metric", "name": "learning_rate", "step": step, "value": 1e-4 * (1 - step / 100)})
        items += [{"type": "log", "text": f"line {number} {CANARY}"} for number in range(300)]
        for start in range(0, len(items), 100):
            assert run.report(1, *items[start : start + 100]).status_code == 200


@dataclass
class Console:
    """A window of the browser. ``errors`` are its messages, such as violations of the page's policy."""

    page: Page
    url: str
    errors: list[str]

    def open(self, path: str) -> None:
        """Open a page and wait until it shows its content."""
        self.page.goto(self.url + path)
        self.page.locator("h1").first.wait_for()
        expect(self.page.get_by_role("status").filter(has_text="Loading")).to_have_count(0)

    def require_safe(self) -> None:
        """Require that no text of a user ran as a script, and that the page violated no rule."""
        assert self.page.evaluate("window.attacked") is None
        assert self.errors == []

    def faults(self) -> list[str]:
        """Return what axe finds."""
        self.page.evaluate(axe())
        found = self.page.evaluate("axe.run({ resultTypes: ['violations'] })")
        return [f"{each['id']}: {node['html'][:200]}" for each in found["violations"] for node in each["nodes"]]

    def picture(self, name: str) -> None:
        """Store a screenshot of the whole page."""
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        self.page.evaluate("window.scrollTo(0, 0)")
        picture = self.page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)
        if name in _GUIDE and os.environ.get("GUIDE_IMAGES"):
            (REPOSITORY / "docs" / "images" / f"console-{_GUIDE[name]}.png").write_bytes(picture)


@contextmanager
def open_window(browser: Browser, url: str, *, phone: bool = False, dark: bool = False) -> Iterator[Console]:
    """Open a window without a session."""
    context = browser.new_context(
        viewport=PHONE if phone else WIDE,  # type: ignore[arg-type]  # a dictionary with these keys
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        locale="en-GB",
    )
    context.set_default_timeout(SECONDS * 1000)
    page = context.new_page()
    errors: list[str] = []

    def on_message(message: ConsoleMessage) -> None:
        # The browser itself reports statuses such as the 401 of a page without a session.
        if message.type == "error" and "Failed to load resource" not in message.text:
            errors.append(message.text)

    page.on("console", on_message)
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        yield Console(page, url, errors)
    finally:
        context.close()


@contextmanager
def open_console(
    browser: Browser, data: ConsoleData, key: str = "", *, phone: bool = False, dark: bool = False
) -> Iterator[Console]:
    """Open a window, signed in with a key if there is one."""
    with open_window(browser, data.url, phone=phone, dark=dark) as console:
        if key:
            reply = console.page.context.request.post(f"{data.url}/v1/auth/browser-sessions", data={"key": key})
            assert reply.status == 201, reply.text()
        yield console
