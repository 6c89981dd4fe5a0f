"""A model that can be called at several places, seen as one."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gateway.types import Capabilities, Deployment, HostedModel


def joined(deployments: Sequence[Deployment]) -> HostedModel:
    """Make one model of its deployments, which takes what each of them takes.

    Price, dialect and provider are those of the first, in order of priority.
    """
    ordered = tuple(sorted(deployments, key=lambda one: one.priority))
    models = [one.model for one in ordered]
    if len(models) == 1:
        return models[0]
    refused = frozenset[str]().union(*(model.lacks.refused for model in models))
    shared = least_of(models)
    return replace(
        models[0],
        fields=common_fields(models),
        lacks=replace(models[0].lacks, refused=refused),
        capabilities=replace(shared, reasoning=models[0].capabilities.reasoning),
        attributes=frozenset.intersection(*(model.attributes for model in models)),
        deployments=ordered,
    )


def within(model: HostedModel, requires: frozenset[str]) -> HostedModel:
    """Return `model` with those deployments alone that have the attributes that are required.

    This is where data rules are held for deployments: whoever plans a call begins here.

    Args:
        model: At least one of its deployments has them.
    """
    if not requires or not model.deployments:
        return model
    admitted = [one for one in model.deployments if requires <= one.model.attributes]
    return model if len(admitted) == len(model.deployments) else joined(admitted)


def every_place(models: Iterable[HostedModel]) -> list[HostedModel]:
    """List the models as they are at each place where they may be called."""
    return [
        place for model in models for place in ([one.model for one in model.deployments] or [model])
    ]


def with_system_prompt(model: HostedModel, prompt: str) -> HostedModel:
    """Return `model` with another system prompt, wherever it is called."""
    deployments = tuple(
        one._replace(model=replace(one.model, system_prompt=prompt)) for one in model.deployments
    )
    return replace(model, system_prompt=prompt, deployments=deployments)


def least_of(models: Sequence[HostedModel]) -> Capabilities:
    """Return what every one of the models can take."""
    all_of_them = [model.capabilities for model in models]
    contexts = [one.context_tokens for one in all_of_them if one.context_tokens is not None]
    outputs = [one for one in map(longest_answer, models) if one is not None]
    return Capabilities(
        tools=all(one.tools for one in all_of_them),
        vision=all(one.vision for one in all_of_them),
        json_schema=all(one.json_schema for one in all_of_them),
        context_tokens=min(contexts, default=None),
        max_output_tokens=min(outputs, default=None),
    )


def longest_answer(model: HostedModel) -> int | None:
    """Return the highest output limit that may be asked of `model`; None where it is not known."""
    return model.capabilities.max_output_tokens or model.lacks.output_tokens


def common_fields(models: Iterable[HostedModel]) -> frozenset[str] | None:
    """Return the request fields that all of the models may be sent; None means any."""
    listed = [model.fields for model in models if model.fields is not None]
    return frozenset.intersection(*listed) if listed else None
