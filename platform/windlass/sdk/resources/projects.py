"""Projects and their members."""

from windlass.domain.errors import NotFoundError
from windlass.sdk._bind import AsyncResource, Resource, async_call, async_listing, call, listing
from windlass.sdk._core import Flow, Listing, Scope, built, delete, get, listed, patch, path, post, put
from windlass.wire.projects import MemberIn, MemberOut, ProjectIn, ProjectOut, ProjectPatch, Role


def create_project(
    scope: Scope, name: str, *, display_name: str = "", cohort: str | None = None, priority_ceiling: int = 0
) -> Flow[ProjectOut]:
    """Create a project; projects of one cohort lend each other idle quota. No job goes above the priority ceiling."""
    del scope
    made = built(ProjectIn, name=name, display_name=display_name, cohort=cohort, priority_ceiling=priority_ceiling)
    return post(path("projects"), ProjectOut, made)


def list_projects(scope: Scope) -> Listing[ProjectOut]:
    """Iterate over the projects that the key may see."""
    del scope
    return listed(path("projects"), ProjectOut)


def get_project(scope: Scope, name: str | None = None) -> Flow[ProjectOut]:
    """Read a project; the client's own without a name."""
    return get(path("projects", name or scope.project), ProjectOut)


def update_project(scope: Scope, name: str, change: ProjectPatch, *, if_match: int | None = None) -> Flow[ProjectOut]:
    """Change what ``change`` sets."""
    del scope
    return patch(path("projects", name), ProjectOut, change, if_match)


def delete_project(scope: Scope, name: str, *, if_match: int | None = None) -> Flow[None]:
    """Delete a project that holds nothing."""
    del scope
    return delete(path("projects", name), if_match)


def list_members(scope: Scope) -> Listing[MemberOut]:
    """Iterate over the members of the project."""
    return listed(scope.path("members"), MemberOut)


def set_member(scope: Scope, user: str, role: Role) -> Flow[MemberOut]:
    """Give a user a role in the project."""
    return put(scope.path("members", user), MemberOut, built(MemberIn, role=role))


def remove_member(scope: Scope, user: str, *, if_match: int | None = None) -> Flow[None]:
    """Take a user out of the project."""

    def current() -> Flow[str]:
        members = yield from list_members(scope).all()
        for member in members:
            if member.user == user:
                return f'"{member.version}"'
        raise NotFoundError(f"user {user} is no member of project {scope.project}")

    return delete(scope.path("members", user), if_match, current)


class Projects(Resource):
    """Projects."""

    create = call(create_project)
    list = listing(list_projects)
    get = call(get_project)
    update = call(update_project)
    delete = call(delete_project)


class AsyncProjects(AsyncResource):
    """Projects."""

    create = async_call(create_project)
    list = async_listing(list_projects)
    get = async_call(get_project)
    update = async_call(update_project)
    delete = async_call(delete_project)


class Members(Resource):
    """Members of the project."""

    list = listing(list_members)
    set = call(set_member)
    remove = call(remove_member)


class AsyncMembers(AsyncResource):
    """Members of the project."""

    list = async_listing(list_members)
    set = async_call(set_member)
    remove = async_call(remove_member)
