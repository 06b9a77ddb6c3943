"""The error of every view: where in the definition it is, on which resource, what is wrong and what to do."""

from __future__ import annotations


class ViewError(ValueError):
    """A ViewDefinition is wrong, or cannot be applied to a resource.

    Parameters
    ----------
    problem
        What is wrong and what to do.
    view
        Name of the view.
    element
        Where in the definition, e.g. ``select[0].column[2]``.
    resource
        Type and id of the resource on which it shows, e.g. ``Patient/1``; ``""`` if the definition itself is wrong.
    """

    def __init__(self, problem: str, view: str = "", element: str = "", resource: str = "") -> None:
        where = [f"view {view!r}" if view else "view", element, resource]
        super().__init__(f"{', '.join(filter(None, where))}: {problem}")
        self.problem, self.view, self.element, self.resource = problem, view, element, resource

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.problem, self.view, self.element, self.resource))
