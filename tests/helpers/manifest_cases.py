"""Manifests that are right and manifests that are not, with what is said of them.

The JSON Schema and the reader are held to the same cases, so that they cannot drift apart.
"""

from __future__ import annotations

COMMIT, SHA256 = "0123456789" * 4, "0123456789abcdef" * 4
PACKAGE = {"type": "package", "path": "weights/m.safetensors"}
HUGGINGFACE = {
    "type": "huggingface",
    "repo": "own-er/na.me_1",
    "revision": COMMIT,
    "path": "m.safetensors",
}
UNRELEASED = {
    "status": "unreleased",
    "reason": "it has not been trained yet",
    "parameters": 12,
    "command": "mdan-zoo train m",
    "licences": {"code": "Apache-2.0", "weights": "none", "data": "its own"},
}
RELEASED = {
    "status": "released",
    "parameters": 12,
    "command": "mdan-zoo train m",
    "licences": {"code": "Apache-2.0", "weights": "Apache-2.0", "data": "its own"},
    "file": "m.safetensors",
    "size": 345,
    "sha256": SHA256,
    "sources": [PACKAGE],
}


def of(entry, name="m"):
    return {"schema_version": 1, "models": {name: entry}}


def released(**changes):
    return of({**RELEASED, **changes})


def without(entry, field):
    return of({key: value for key, value in entry.items() if key != field})


def source(kind, **fields):
    return released(sources=[{"type": kind, **fields}])


def huggingface(**changes):
    return released(sources=[{**HUGGINGFACE, **changes}])


ACCEPTED = {
    "no models": {"schema_version": 1, "models": {}},
    "released": of(RELEASED),
    "unreleased": of(UNRELEASED),
    "unreleased without sources": of({**UNRELEASED, "sources": []}),
    "every detail": released(
        config={},
        training={},
        metrics={},
        input={},
        hierarchy={},
        libraries={},
        golden={},
        version="2",
    ),
    "empty texts": of(
        {**UNRELEASED, "command": "", "licences": dict.fromkeys(RELEASED["licences"], "")}
    ),
    "every source": released(
        sources=[
            PACKAGE,
            HUGGINGFACE,
            {"type": "https", "url": "https://example.org/m.safetensors?download=true"},
            {"type": "file", "url": "file:///srv/my%20weights/m.safetensors"},
            {"type": "relative", "path": "a/b.c/m.safetensors"},
        ]
    ),
    "rows": released(metrics={"rows": [{"polarity_accuracy": 0.5, "model": None}]}),
    "port": source("https", url="https://example.org:8443/m"),
    "http on localhost": source("https", url="http://localhost:8080/m"),
    "http on 127.0.0.1": source("https", url="http://127.0.0.1/m"),
    "http on ::1": source("https", url="http://[::1]:8080/m"),
    "longest names": released(
        file="m" * 243 + ".safetensors",
        sources=[{"type": "relative", "path": "d" * 255 + "/" + "m" * 255}],
    ),
    "unknown fields": {
        **of({**RELEASED, "colour": 1, "licences": {**RELEASED["licences"], "site": 2}}),
        "mirrors": [],
    },
    "unknown field of a source": source("package", path="m", region="eu"),
}

REFUSED = {
    "list": ([], r"is \[\]; it must be an object"),
    "number": (5, "is 5; it must be an object"),
    "no schema version": ({"models": {}}, "schema version None; this mdan_zoo reads 1"),
    "newer schema version": ({"schema_version": 2, "models": {}}, "schema version 2"),
    "text as schema version": ({"schema_version": "1", "models": {}}, "schema version '1'"),
    "true as schema version": ({"schema_version": True, "models": {}}, "schema version True"),
    "no models": ({"schema_version": 1}, "no object 'models'"),
    "list of models": ({"schema_version": 1, "models": []}, "no object 'models'"),
    "model name": (of(RELEASED, "../m"), r"a model's name is '\.\./m'; it must be"),
    "empty model name": (of(RELEASED, ""), "a model's name is ''"),
    "entry": (of(5), "json: m is 5; it must be an object"),
    "empty entry": (of({}), "m lacks status, parameters, command, licences"),
    "status": (released(status="lost"), "status is 'lost'; it must be 'released' or 'unreleased'"),
    "no reason": (without(UNRELEASED, "reason"), r"\(status 'unreleased'\) lacks reason"),
    "empty reason": (of({**UNRELEASED, "reason": ""}), r"\(status 'unreleased'\) lacks reason"),
    "reason": (released(reason=5), "reason is 5; it must be a text"),
    "command": (released(command=None), "command is None; it must be a text"),
    "no file": (without(RELEASED, "file"), r"\(status 'released'\) lacks file"),
    "no size": (without(RELEASED, "size"), "lacks size"),
    "no SHA-256": (without(RELEASED, "sha256"), "lacks sha256"),
    "no sources": (without(RELEASED, "sources"), "lacks sources"),
    "empty sources": (released(sources=[]), "lacks sources"),
    "bad value of an unreleased model": (of({**UNRELEASED, "size": 0}), "size is 0"),
    # parameters, size, hash, file
    "no parameters": (released(parameters=0), "parameters is 0; it must be a whole number above 0"),
    "true as parameters": (released(parameters=True), "parameters is True"),
    "size as text": (released(size="12"), "size is '12'; it must be a whole number above 0"),
    "size as fraction": (released(size=12.5), r"size is 12\.5"),
    "size below 0": (released(size=-1), "size is -1"),
    "size null": (released(size=None), "size is None"),
    "short hash": (released(sha256="0123"), "sha256 is '0123'; it must be 64 lowercase hex"),
    "hash in capitals": (released(sha256=SHA256.upper()), "64 lowercase hexadecimal digits"),
    "hash and line end": (released(sha256=SHA256 + "\n"), r"sha256 is '.*\\n'; it must be 64"),
    "hash as number": (released(sha256=12), "sha256 is 12"),
    "climbing file": (released(file="../m.safetensors"), r"file is '\.\./m\.safetensors'; it must"),
    "file in folder": (released(file="a/m.safetensors"), "file is 'a/m"),
    "pickled file": (released(file="m.pt"), r"ends in '\.safetensors'"),
    "only an ending": (released(file=".safetensors"), r"file is '\.safetensors'"),
    "long file": (released(file="m" * 244 + ".safetensors"), "file is 'mmm"),
    # licences and details
    "licences": (released(licences="MIT"), "licences is 'MIT'; it must be an object"),
    "two licences": (released(licences={"code": "", "data": ""}), "licences lacks weights"),
    "licence": (released(licences={**RELEASED["licences"], "data": 1}), "data is 1; it must be a"),
    "metrics": (released(metrics=[1]), r"metrics is \[1\]; it must be an object"),
    "rows": (released(metrics={"rows": 5}), r"metrics\.rows is 5; it must be a list of objects"),
    "row": (released(metrics={"rows": [{}, "a"]}), r"metrics\.rows\[1\] is 'a'; it must be an obj"),
    "version": (released(version=2), "version is 2; it must be a text"),
    # sources
    "sources": (released(sources="package"), "sources is 'package'; it must be a list"),
    "source": (released(sources=["package"]), r"sources\[0\] is 'package'; it must be an object"),
    "second source": (released(sources=[PACKAGE, 5]), r"m\.sources\[1\] is 5"),
    "no type": (released(sources=[{"path": "m"}]), r"sources\[0\] lacks type"),
    "type": (source("hugingface"), r"\[0\]\.type is 'hugingface'; did you mean 'huggingface'\?"),
    "type as list": (source(["https"]), r"type is \['https'\]"),
    "no path": (source("package"), r"\(type 'package'\) lacks path"),
    "no commit": (
        source("huggingface", repo="a/b", path="m"),
        r"\(type 'huggingface'\) lacks revision",
    ),
    "field of another type": (
        source("package", path="m", url="https://example.org/m"),
        r"url is 'https://.*'; a source of type 'package' has only path",
    ),
    "branch": (huggingface(revision="main"), "revision is 'main'; .* a branch could be moved"),
    "short commit": (huggingface(revision=COMMIT[:12]), "a commit of 40 lowercase"),
    "repository without owner": (huggingface(repo="name"), "repo is 'name'; it must be 'owner/na"),
    "deep repository": (huggingface(repo="a/b/c"), "repo is 'a/b/c'"),
    "climbing repository": (huggingface(repo="../x"), r"repo is '\.\./x'"),
    "http mirror": (source("https", url="http://example.org/m"), "must be an https:// URL"),
    "http on a look-alike": (source("https", url="http://localhost.example.org/m"), "must be an h"),
    "ftp mirror": (source("https", url="ftp://example.org/m"), "url is 'ftp://example.org/m'"),
    "user in URL": (source("https", url="https://user:x@example.org/m"), "without a user name"),
    "loopback as user": (source("https", url="http://localhost@example.org/m"), "without a user"),
    "space in URL": (source("https", url="https://example.org/a b"), "percent-encoded"),
    "relative file URL": (source("file", url="file:m"), "file:// with an absolute"),
    "file URL with host": (source("file", url="file://host/m"), "file:// with an absolute"),
    "path as file URL": (source("file", url="/srv/m"), "file:// with an absolute"),
    "NUL in file URL": (source("file", url="file:///srv/m%00"), "file:// with an absolute"),
} | {
    f"{kind} path {name}": (
        huggingface(path=path) if kind == "huggingface" else source(kind, path=path),
        rf"json: m\.sources\[0\]\.path is {shown}.*; it must be a relative path such as",
    )
    for kind in ("package", "huggingface", "relative")
    for name, path, shown in [
        ("empty", "", "''"),
        ("climbing", "../../x", r"'\.\./\.\./x'"),
        ("climbing inside", "a/../../x", r"'a/\.\./\.\./x'"),
        ("dot", "./x", r"'\./x'"),
        ("absolute", "/etc/x", "'/etc/x'"),
        ("drive", "C:/x", "'C:/x'"),
        ("backslash", "a\\x", r"'a\\\\x'"),
        ("NUL", "a\0x", r"'a\\x00x'"),
        ("empty part", "a//x", "'a//x'"),
        ("final slash", "a/", "'a/'"),
        ("300 characters", "a/" + "x" * 300, "'a/xxx"),
        ("line end", "a/x\n", r"'a/x\\n'"),
        ("not a text", 5, "5"),
    ]
}
