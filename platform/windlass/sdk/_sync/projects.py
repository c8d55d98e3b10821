# Generated from _async/projects.py by docs/generate_sync_sdk.py; do not edit.
"""Projects and their members."""

from collections.abc import Mapping
from typing import Any

from windlass.sdk._protocol import path, validate_body
from windlass.sdk._sync.pages import CursorPage
from windlass.sdk._sync.resource import Resource
from windlass.sdk.arguments import as_body
from windlass.wire.base import DeletionOut
from windlass.wire.projects import MemberIn, MemberOut, ProjectIn, ProjectOut, ProjectPatch, Role


class Projects(Resource):
    """Projects."""

    def create(
        self, name: str, *, display_name: str = "", cohort: str | None = None, priority_ceiling: int = 0
    ) -> ProjectOut:
        """Create a project. Projects in one cohort borrow unused quota; ``priority_ceiling`` limits job priorities."""
        body = validate_body(
            ProjectIn, name=name, display_name=display_name, cohort=cohort, priority_ceiling=priority_ceiling
        )
        return self._post(path("projects"), ProjectOut, body)

    def list(self) -> CursorPage[ProjectOut]:
        """List the projects that the key can read."""
        return self._list(path("projects"), ProjectOut)

    def get(self, name: str | None = None) -> ProjectOut:
        """Get a project; default: the client's project."""
        return self._get(path("projects", name or self._project), ProjectOut)

    def update(self, name: str, change: ProjectPatch | Mapping[str, Any], *, if_match: int | None = None) -> ProjectOut:
        """Change the fields that are set in ``change``."""
        return self._patch(path("projects", name), ProjectOut, as_body(ProjectPatch, change), if_match)

    def delete(
        self, name: str, *, if_match: int | None = None, dry_run: bool = False, cascade: bool = False
    ) -> DeletionOut:
        """Delete a project with all its data; it must have no active jobs or endpoints."""
        return self._delete(path("projects", name), if_match, dry_run=dry_run, cascade=cascade)


class Members(Resource):
    """Members of the project."""

    def list(self) -> CursorPage[MemberOut]:
        """List the members of the project."""
        return self._list(self._path("members"), MemberOut)

    def set(self, user: str, role: Role) -> MemberOut:
        """Add a user to the project, or change the user's role."""
        return self._put(self._path("members", user), MemberOut, validate_body(MemberIn, role=role))

    def remove(self, user: str, *, dry_run: bool = False) -> DeletionOut:
        """Remove a user from the project."""
        query = {"dry_run": dry_run or None}
        return self._delete_with_result(self._path("members", user), DeletionOut, query)

    def set_group(self, group: str, role: Role) -> MemberOut:
        """Give a role to all users of a group of the identity provider, or change it."""
        return self._put(self._path("groups", group), MemberOut, validate_body(MemberIn, role=role))

    def remove_group(self, group: str, *, dry_run: bool = False) -> DeletionOut:
        """Take the role from a group."""
        query = {"dry_run": dry_run or None}
        return self._delete_with_result(self._path("groups", group), DeletionOut, query)
