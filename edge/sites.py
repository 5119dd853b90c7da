"""The sites of a node, as the configuration says."""

from collections.abc import Iterable, Mapping
from typing import Final

from edge.origin.files import Docroot
from edge.origin.pool import OriginPool
from edge.policy.looks import Looks
from edge.policy.negotiation import Negotiation
from edge.policy.steps import OffStep, Steps
from edge.policy.tags import PathTags
from edge.settings.sections import Input, Pictures
from edge.settings.sections import Ladder as LadderWhen
from edge.settings.sections import Site as SiteSection
from edge.site import Site, Sites
from edge.urls.grammars import make_grammars
from resizer.formats import Format, InputOnly
from resizer.qualities import Qualities

# In the order of the formats' names, as Qualities has them.
QUALITY_FIELDS: Final = (
    (Format.AVIF, "quality_avif"),
    (Format.JPEG, "quality_jpeg"),
    (Format.WEBP, "quality_webp"),
)
INPUTS: Final = {Input.TIFF: InputOnly.TIFF, Input.JPEG2000: InputOnly.JPEG2000}


def build_sites(sections: Iterable[SiteSection], origins: Mapping[str, OriginPool]) -> Sites:
    """Raises DocrootFailed."""
    by_host: dict[str, Site] = {}
    default: Site | None = None
    for section in sections:
        site = _build_site(section, origins)
        for host in section.hosts:
            by_host[host] = site
        if not section.hosts:
            default = site
    return Sites(by_host, default)


def _build_site(section: SiteSection, origins: Mapping[str, OriginPool]) -> Site:
    docroot = None
    if section.root is not None:
        docroot = Docroot(section.root, symlinks=section.symlinks)
    max_age_s = int(section.expire.max_age)
    control = f"public, max-age={max_age_s}"
    return Site(
        name=section.name,
        hosts=section.hosts,
        docroot=docroot,
        origin=None if section.origin is None else origins[section.origin],
        grammars=make_grammars([grammar.value for grammar in section.grammars]),
        extensions=section.extensions,
        prefix=section.prefix,
        steps=Steps(section.steps, OffStep(section.off_step.value)),
        max_age_s=max_age_s,
        cache_control=f"{control}, immutable" if section.expire.immutable else control,
        max_source_bytes=section.limits.max_source_bytes,
        negotiation=Negotiation(
            formats=frozenset(Format(name.value) for name in section.negotiate.formats),
            save_data=section.negotiate.save_data,
            client_hints=section.negotiate.client_hints,
            upgrade=section.negotiate.upgrade,
            widths=section.steps,
        ),
        has_ladders=section.ladder is LadderWhen.ON_FIRST_MISS,
        looks=_build_looks(section.pictures),
        tags=PathTags(section.tags),
        purge_from=section.purge_from,
        max_body_bytes=section.limits.max_body_bytes,
    )


def _build_looks(section: Pictures) -> Looks:
    asked = ((name, getattr(section, field)) for name, field in QUALITY_FIELDS)
    return Looks(
        sharpen=section.sharpen,
        progressive=section.progressive,
        qualities=Qualities(tuple((name, most) for name, most in asked if most is not None)),
        inputs=tuple(INPUTS[name] for name in section.inputs),
        marks=section.watermarks,
    )


def fields_minded(sites: Sites) -> frozenset[bytes]:
    """Of the fields that say nothing elsewhere, those that a site looks at."""
    is_minded = any(site.negotiation.save_data for site in sites.all())
    return frozenset({b"save-data"}) if is_minded else frozenset()
