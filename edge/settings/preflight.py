"""What no single setting can know: settings against each other, and against this machine.

Nothing here changes anything: a folder that would have to be made is only asked whether it could
be. A path that already has a problem is not reported a second time by its consequences; that is
the caller's duty, who knows what was reported.
"""

import grp
import importlib.util
import os
import pwd
import ssl
import stat
from collections.abc import Collection, Sequence
from typing import Final

from edge.settings.addresses import Address, EmbeddedIndex, IndexAddress, TcpAddress, UnixAddress
from edge.settings.declare import Report
from edge.settings.document import Path
from edge.settings.sections import GET_VALUES, S3, Cache, Log, Origin, OriginKind, Site
from resizer.job import MAX_MARK_BYTES


def check_workers(workers: int, index: IndexAddress, report: Report) -> None:
    if workers > 1 and isinstance(index, EmbeddedIndex):
        report(
            ("workers",),
            f"{workers} of them need an index that they can share: name a Redis in cache.index",
        )


def check_account(user: str | None, group: str | None, report: Report) -> None:
    if user is not None:
        try:
            pwd.getpwnam(user)
        except KeyError:
            report(("user",), f"there is no user {user} on this machine")
    if group is not None:
        try:
            grp.getgrnam(group)
        except KeyError:
            report(("group",), f"there is no group {group} on this machine")


def check_sockets(listen: Sequence[Address], admin: Address, report: Report) -> None:
    for number, address in enumerate(listen):
        for other in listen[:number]:
            if _collides(address, other):
                report(("listen", number), f"{address} and {other} cannot both be bound")
        if _collides(address, admin):
            report(("admin",), f"{admin} is taken by listen = {address}; admin needs its own")


def _collides(one: Address, other: Address) -> bool:
    """The kernel would refuse the second bind(). 0.0.0.0 takes a port on every IPv4 address."""
    if not (isinstance(one, TcpAddress) and isinstance(other, TcpAddress)):
        return one == other
    if one.port != other.port or one.port == 0:
        return False
    same_family = (":" in one.host) == (":" in other.host)
    return one.host == other.host or (same_family and (one.is_wildcard or other.is_wildcard))


def check_sites(sites: Sequence[Site], origins: Collection[str], report: Report) -> None:
    if not sites:
        report(("site",), "there is none: add [[site]] with a root or an origin, or serve a folder")
    owners: dict[str, int] = {}
    for number, site in enumerate(sites):
        where: Path = ("site", number)
        if site.root is None and site.origin is None:
            report(where, "needs root, origin, or both")
        if site.origin is not None and site.origin not in origins:
            known = ", ".join(sorted(set(origins))) or "there is none"
            report((*where, "origin"), f'no [[origin]] is named "{site.origin}" ({known})')
        # "*" is the name of the site without hosts: a second default site is a duplicate too.
        for host in site.hosts or ("*",):
            if host not in owners:
                owners[host] = number
            elif host == "*":
                report(where, "is a second default site; all but one need hosts")
            else:
                report((*where, "hosts"), f"{host} belongs to another site already")


def check_origin_names(names: Sequence[str], report: Report) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            report(("origin", number, "name"), f'"{name}" is taken by another origin')


def check_origin_hosts(origins: Sequence[Origin], report: Report) -> None:
    for number, origin in enumerate(origins):
        where: Path = ("origin", number)
        for place, host in enumerate(origin.backup):
            if host in origin.hosts:
                report((*where, "backup", place), f"{host} is one of the hosts already")
        names = {str(host) for host in (*origin.hosts, *origin.backup)}
        for name, _ in origin.weights:
            if name not in names:
                report((*where, "weights", name), f"{name} is none of the hosts")


_LISTENING: Final = (OriginKind.FASTCGI, OriginKind.HTTP)
_SCRIPTED: Final = (OriginKind.FASTCGI, OriginKind.CGI)


def check_origin_kinds(origins: Sequence[Origin], report: Report) -> None:
    """What one kind needs and another cannot have."""
    for number, origin in enumerate(origins):
        where: Path = ("origin", number)
        kind = origin.kind
        if kind in _LISTENING and not origin.hosts:
            report((*where, "hosts"), f'is missing: kind = "{kind}" connects to them')
        if kind not in _LISTENING:
            for name in ("hosts", "backup"):
                if getattr(origin, name):
                    report((*where, name), f'means nothing where kind = "{kind}"')
        if kind in _SCRIPTED and origin.script_filename is None:
            report((*where, "script_filename"), f'is missing: kind = "{kind}" needs it')
        if kind not in _SCRIPTED and origin.script_filename is not None:
            report((*where, "script_filename"), f'means nothing where kind = "{kind}"')
        if kind is not OriginKind.FASTCGI and origin.probe == GET_VALUES:
            report((*where, "probe"), f'"{GET_VALUES}" is no question to kind = "{kind}"')
        if kind is OriginKind.CGI and origin.script_filename is not None:
            _check_program(origin.script_filename, (*where, "script_filename"), report)
        if kind is not OriginKind.HTTP and origin.host_header is not None:
            report((*where, "host_header"), f'means nothing where kind = "{kind}"')
        _check_tls(origin, where, report)
        _check_s3(origin, where, report)


def _check_program(path: str, where: Path, report: Report) -> None:
    if not os.path.isfile(path):
        report(where, f"{path} is no file on this machine")
    elif not os.access(path, os.X_OK):
        report(where, f"{path} cannot be executed by this user (uid {os.geteuid()})")


def _check_tls(origin: Origin, where: Path, report: Report) -> None:
    if origin.tls and origin.kind is OriginKind.S3:
        report((*where, "tls"), 'means nothing where kind = "s3": s3.endpoint says https, or http')
    elif origin.tls and origin.kind is not OriginKind.HTTP:
        report((*where, "tls"), f'means nothing where kind = "{origin.kind}"')
    if not origin.tls and origin.kind is not OriginKind.S3:
        return
    if any(isinstance(host, UnixAddress) for host in (*origin.hosts, *origin.backup)):
        report((*where, "tls"), "is not spoken over unix sockets")
    if origin.tls_ca is None:
        return
    try:
        ssl.create_default_context(cafile=origin.tls_ca)
    except OSError as error:  # of which those of ssl are some
        report((*where, "tls_ca"), f"{origin.tls_ca} cannot be used: {error.strerror or error}")


def _check_s3(origin: Origin, where: Path, report: Report) -> None:
    s3 = origin.s3
    if origin.kind is not OriginKind.S3:
        if s3.bucket is not None:
            report((*where, "s3", "bucket"), f'means nothing where kind = "{origin.kind}"')
        return
    if importlib.util.find_spec("obstore") is None:
        report((*where, "kind"), '"s3" needs an extra: pip install "halftone[s3]"')
    if s3.bucket is None:
        report((*where, "s3", "bucket"), 'is missing: kind = "s3" needs it')
    if bool(s3.access_key) != bool(s3.secret_key.text):
        report((*where, "s3", "access_key"), "and secret_key need each other")
    if s3.anonymous and s3.access_key:
        report((*where, "s3", "anonymous"), "signs nothing, and there is an access_key")
    if origin.probe is not None and any(
        part in ("", ".", "..") for part in origin.probe[1:].split("/")
    ):
        report((*where, "probe"), f'names no object, as kind = "s3" needs it: {origin.probe}')
    if s3.virtual_host:
        _check_virtual_host(s3, (*where, "s3", "virtual_host"), report)


def _check_virtual_host(s3: S3, where: Path, report: Report) -> None:
    if any(not 1 <= len(label) <= 63 for label in (s3.bucket or "x").split(".")):
        report(where, f"the name of the bucket cannot be a part of a host's: {s3.bucket}")
    host = "" if s3.endpoint is None else s3.endpoint.address.host
    if ":" in host or host.replace(".", "").isdigit():
        report(where, f"needs a name to stand before, and s3.endpoint has an address, {host}")
    if "." in (s3.bucket or "") and (s3.endpoint is None or s3.endpoint.tls):
        report(where, f'with "." in the name of the bucket no certificate is valid: {s3.bucket}')


def check_sendfile_roots(origins: Sequence[Origin], cache: Cache, report: Report) -> None:
    for number, origin in enumerate(origins):
        for root in origin.sendfile_roots:
            _check_folder(root.folder, cache, ("origin", number, "sendfile_roots"), report)


def check_roots(sites: Sequence[Site], cache: Cache, report: Report) -> None:
    for number, site in enumerate(sites):
        where: Path = ("site", number, "root")
        if site.root is not None:
            _check_folder(site.root, cache, where, report)


def _check_folder(folder: str, cache: Cache, where: Path, report: Report) -> None:
    if not os.path.isdir(folder):
        kind = "is not a directory" if os.path.exists(folder) else "does not exist"
        report(where, f"{folder} {kind}")
    elif not os.access(folder, os.R_OK | os.X_OK):
        report(where, f"{folder} cannot be read by this user (uid {os.geteuid()})")
    for held in (cache.path, *cache.folders):
        if _is_inside(folder, held):
            # What lies in a cache folder may be deleted.
            report(where, f"{folder} lies inside the cache, {held}")


def check_watermarks(sites: Sequence[Site], report: Report) -> None:
    for number, site in enumerate(sites):
        for name, path in site.pictures.watermarks:
            fault = _fault_of_mark(path)
            if fault:
                report(("site", number, "pictures", "watermarks", name), f"{path} {fault}")


def _fault_of_mark(path: str) -> str:
    try:
        found = os.lstat(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not stat.S_ISREG(found.st_mode):
        return "is not a file"
    if found.st_size > MAX_MARK_BYTES:
        return f"has {found.st_size} bytes, {MAX_MARK_BYTES} are the most"
    if not os.access(path, os.R_OK):
        return f"cannot be read by this user (uid {os.geteuid()})"
    return ""


def _is_inside(path: str, folder: str) -> bool:
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath((path, folder)) == folder


def check_cache(cache: Cache, report: Report) -> None:
    _check_folders(cache, report)
    where: Path = ("cache", "path")
    if cache.folders and not isinstance(cache.index, EmbeddedIndex):
        # One folder that works is enough, and which one that is shows when they are opened.
        return
    if (ancestor := _nearest(cache.path)) != cache.path:
        doing = f"{cache.path} cannot be made in {ancestor}"
    else:
        doing = f"{cache.path} cannot be used"
    if not os.path.isdir(ancestor):
        report(where, f"{doing}: not a directory")
    elif not os.access(ancestor, os.R_OK | os.W_OK | os.X_OK):
        report(where, f"{doing}: not writable by this user (uid {os.geteuid()})")


def _check_folders(cache: Cache, report: Report) -> None:
    """No folder in another one: each bounds what is in it, and removes what it does not know."""
    for number, folder in enumerate(cache.folders):
        for other in (cache.path, *cache.folders[:number]):
            if _is_inside(folder, other) or _is_inside(other, folder):
                report(("cache", "folders"), f"{folder} and {other} are not apart")


def check_log(log: Log, report: Report) -> None:
    where: Path = ("log", "access")
    if log.access in ("-", "off"):
        return
    folder = os.path.dirname(log.access)
    if os.path.isdir(log.access):
        report(where, f"{log.access} is a directory")
    elif os.path.exists(log.access):
        if not os.access(log.access, os.W_OK):
            report(where, f"{log.access} is not writable by this user (uid {os.geteuid()})")
    elif not os.path.isdir(folder):
        report(where, f"folder {folder} does not exist")
    elif not os.access(folder, os.W_OK | os.X_OK):
        report(where, f"{folder} is not writable by this user (uid {os.geteuid()})")


def _nearest(path: str) -> str:
    """path, or the innermost folder around it that exists."""
    while not os.path.lexists(path) and path != "/":
        path = os.path.dirname(path)
    return path
