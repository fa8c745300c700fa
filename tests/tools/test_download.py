"""download.py, against servers on this machine that misbehave on request."""

import gzip
import hashlib
import io
import json
import re
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import pytest
from bad_hosts import CONTENT, PACKED, Host
from download import HOMES, HOSTS, PATHS, SHA256, PublicFile, download, fetch, main, public_files
from tqdm.auto import tqdm

from mmrec_helpers.loading import load_data
from mmrec_helpers.settings import load_settings

MODULE = sys.modules[fetch.__module__]
MOVIELENS_MEMBERS = {  # of the published members, as recorded by others
    "ratings.csv": "aa289ca83157595d0df6aea1be6a4ded676ddc4385472e8313a8ed9805352646",
    "movies.csv": "5a5f32dd9bb3797b8e728a1b98958789d2b13f294a69fdfbc5727f8a9611aa07",
    "links.csv": "97ad18e4e56a09363c65676b6cb3482ce3e2cea2372a24620c1599c843325f31",
    "tags.csv": "92a9f8bb7916dceef6151209845788c3643f794dfa79d1feaec7121b5960399d",
    "README.txt": "63d22ac138e80fae37021797ed8e1b9424b5239dc576a137422adf783ae3f404",
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def hosts():
    """Two hosts that both have ``data.bin`` and ``data.json.gz``."""
    made = [Host(**{"data.bin": CONTENT, "data.json.gz": PACKED}) for _ in range(2)]
    yield made
    for host in made:
        host.close()


@pytest.fixture
def host(hosts):
    return hosts[0]


@pytest.fixture
def gone():
    """An address where nobody listens."""
    host = Host()
    host.close()
    return host.address


def plain(*hosts) -> PublicFile:
    """A file whose checksum is known."""
    return PublicFile("data.bin", tuple(f"{host.address}/data.bin" for host in hosts), sha256(CONTENT))


def packed(*hosts) -> PublicFile:
    """A file whose checksum is not known."""
    return PublicFile("data.json.gz", tuple(f"{host.address}/data.json.gz" for host in hosts))


def opened(data: str):
    """The data set that MMREC_DATA names so."""
    return load_data(load_settings({"MMREC_DATA": data}))[0]


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# One file, one host ----------------------------------------------------------------------------------------------


def test_a_file_comes_whole_and_leaves_no_part(host, tmp_path):
    path = fetch(plain(host), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "data.bin"
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["data.bin"]


def test_a_file_that_is_there_is_not_asked_for_again(host, tmp_path):
    for file in (plain(host), packed(host)):
        fetch(file, tmp_path)
        fetch(file, tmp_path)
    assert [path for path, _ in host.requests] == ["/data.bin", "/data.json.gz"]


def break_off(host, monkeypatch):
    host.fault = "breaks off"
    return ConnectionError


def interrupt(host, monkeypatch):
    monkeypatch.setattr(tqdm, "update", lambda bar, count: (_ for _ in ()).throw(KeyboardInterrupt))
    return KeyboardInterrupt


@pytest.mark.parametrize("stop", [break_off, interrupt])
@pytest.mark.parametrize("kind", [plain, packed])
def test_what_came_before_a_break_is_not_fetched_again(host, tmp_path, stop, kind):
    file, part = kind(host), tmp_path / f"{kind(host).name}.part"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(stop(host, patch)):
        fetch(file, tmp_path)
    size = part.stat().st_size
    assert 0 < size < len(CONTENT)
    assert names(tmp_path) == [part.name]
    host.fault, host.sent = None, 0
    fetch(file, tmp_path)
    assert host.ranges == ["", f"bytes={size}-"]
    assert size + host.sent == len(host.files[f"/{file.name}"])
    assert (tmp_path / file.name).read_bytes() == host.files[f"/{file.name}"]
    assert not part.exists()


def test_the_error_of_a_break_tells_how_much_came(host, tmp_path):
    host.fault = "breaks off"
    with pytest.raises(ConnectionError, match="broke off after 150,000 of 300,000 bytes") as caught:
        fetch(plain(host), tmp_path)
    assert "150,000 bytes are kept for the next try" in str(caught.value)


def test_the_progress_bar_starts_where_the_part_ends(host, tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:150_000])
    host.fault = "breaks off"
    with pytest.raises(ConnectionError):
        fetch(plain(host), tmp_path)
    assert re.search(r"data\.bin: +50%.* 150k/300k", capfd.readouterr().err)


@pytest.mark.parametrize(
    ("fault", "ranges"), [("ignores Range", ["bytes=1000-"]), ("wrong Content-Range", ["bytes=1000-", ""])]
)
@pytest.mark.parametrize("kind", [plain, packed])
def test_a_host_that_cannot_resume_gives_the_file_anew(host, tmp_path, fault, ranges, kind):
    file = kind(host)
    (tmp_path / f"{file.name}.part").write_bytes(host.files[f"/{file.name}"][:1000])
    host.fault = fault
    assert fetch(file, tmp_path).read_bytes() == host.files[f"/{file.name}"]
    assert host.ranges == ranges


def test_a_host_that_sends_less_than_the_rest_is_asked_on(host, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:100_000])
    host.fault = "sends less"
    with pytest.raises(ConnectionError, match="broke off after 200,000 of 300,000 bytes"):
        fetch(plain(host), tmp_path)
    host.fault = None
    assert fetch(plain(host), tmp_path).read_bytes() == CONTENT
    assert host.ranges == ["bytes=100000-", "bytes=200000-"]


def test_a_part_that_is_whole_gets_its_name(host, tmp_path):
    for file in (plain(host), packed(host)):
        (tmp_path / f"{file.name}.part").write_bytes(host.files[f"/{file.name}"])
        assert fetch(file, tmp_path).read_bytes() == host.files[f"/{file.name}"]
    assert host.sent == 0


@pytest.mark.parametrize("kind", [plain, packed])
@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * len(CONTENT), b"x" * len(PACKED), b"x" * 400_000, b""])
def test_a_part_of_other_bytes_is_fetched_anew_once(host, tmp_path, part, kind):
    file = kind(host)
    (tmp_path / f"{file.name}.part").write_bytes(part)
    assert fetch(file, tmp_path).read_bytes() == host.files[f"/{file.name}"]
    assert host.ranges == ([f"bytes={len(part)}-", ""] if part else [""])


def test_a_part_with_zeros_behind_the_end_is_fetched_anew_though_gzip_reads_it(host, tmp_path):
    (tmp_path / "data.json.gz.part").write_bytes(PACKED + bytes(100))
    assert fetch(packed(host), tmp_path).read_bytes() == PACKED


def test_a_full_disk_is_not_blamed_on_the_host(hosts, tmp_path, monkeypatch):
    monkeypatch.setattr(tqdm, "update", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left") as caught:
        fetch(plain(*hosts), tmp_path)
    assert not isinstance(caught.value, ConnectionError)
    assert hosts[1].requests == []


def test_a_file_that_is_encoded_on_the_way_is_refused(host, tmp_path):
    host.fault = "encodes"
    with pytest.raises(ConnectionError, match=r"sends the file encoded \(gzip\)"):
        fetch(plain(host), tmp_path)


def test_a_file_without_end_is_refused(host, tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "MAX_SIZE", len(CONTENT) - 1)
    with pytest.raises(ConnectionError, match=r"sends 300,000 bytes, more than any file that is known"):
        fetch(plain(host), tmp_path)
    assert host.ranges == [""]


def test_two_downloads_of_one_file_take_turns(host, tmp_path):
    with ThreadPoolExecutor() as pool:
        paths = list(pool.map(lambda _: fetch(plain(host), tmp_path), range(4)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert len(host.requests) == 1


# Two hosts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [404, 503, "breaks off", "wrong bytes", "no length", "silent"])
@pytest.mark.parametrize("kind", [plain, packed])
def test_the_second_host_steps_in(hosts, tmp_path, monkeypatch, fault, kind):
    monkeypatch.setattr(MODULE, "TIMEOUT", 0.2)
    hosts[0].fault = fault
    file = kind(*hosts)
    assert fetch(file, tmp_path).read_bytes() == hosts[0].files[f"/{file.name}"]
    assert len(hosts[0].requests) == len(hosts[1].requests) == 1
    assert bool(hosts[1].ranges[0]) == (fault == "breaks off")


def test_a_host_is_not_waited_for_without_end(host, tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "TIMEOUT", 0.2)
    host.fault = "silent"
    with pytest.raises(ConnectionError, match="timed out"):
        fetch(plain(host), tmp_path)


def test_the_second_host_steps_in_where_nobody_answers_at_the_first(gone, host, tmp_path):
    file = PublicFile("data.bin", (f"{gone}/data.bin", f"{host.address}/data.bin"), sha256(CONTENT))
    assert fetch(file, tmp_path).read_bytes() == CONTENT


def test_the_first_host_alone_is_asked_if_it_works(hosts, tmp_path):
    fetch(plain(*hosts), tmp_path)
    assert hosts[1].requests == []


@pytest.mark.parametrize("part", [b"", b"x" * 1000])
def test_wrong_bytes_everywhere_are_an_error_and_leave_nothing(hosts, tmp_path, part):
    (tmp_path / "data.bin.part").write_bytes(part)
    for host in hosts:
        host.fault = "wrong bytes"
    with pytest.raises(ConnectionError, match=r"data\.bin could not be fetched") as caught:
        fetch(plain(*hosts), tmp_path)
    assert str(caught.value).count("wrong checksum (SHA-256 ") == 2
    assert names(tmp_path) == []
    assert len(hosts[0].requests) == (2 if part else 1)  # never in a circle
    assert len(hosts[1].requests) == 1


def test_a_page_that_comes_instead_of_a_gzip_file_is_refused(host, tmp_path):
    host.files["/data.json.gz"] = b"<html>Please log in.</html>"
    with pytest.raises(ConnectionError, match="no complete gzip file"):
        fetch(packed(host), tmp_path)
    assert names(tmp_path) == []


def test_https_that_leads_to_http_is_refused(host, tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "urlopen", lambda *_: urlopen(f"{host.address}/data.bin"))
    with pytest.raises(ConnectionError, match=r"leads to http://127\.0\.0\.1:.*, which is not https"):
        fetch(PublicFile("data.bin", ("https://safe.example/data.bin",), sha256(CONTENT)), tmp_path)


@pytest.mark.parametrize("address", ["ftp://host/data.bin", "file:///etc/hosts", "/etc/hosts"])
def test_only_http_and_https_are_addresses(address):
    with pytest.raises(ValueError, match="is no address of http or https"):
        PublicFile("data.bin", (address,))


# Without a network -----------------------------------------------------------------------------------------------


def test_without_a_network_the_error_says_what_to_fetch_by_hand(gone, host, tmp_path):
    file = PublicFile("data.bin", (f"{gone}/data.bin", f"{host.address}/none"), sha256(CONTENT), "https://home.example")
    with pytest.raises(ConnectionError) as caught:
        fetch(file, tmp_path)
    assert str(caught.value).splitlines() == [
        "data.bin could not be fetched:",
        f"  {gone}/data.bin: Connection refused",
        f"  {host.address}/none: HTTP 404 Not Found",
        "Try again later; or fetch it by hand from there or from https://home.example, put it at",
        f"  {tmp_path}/data.bin",
        "and make the same call again: it goes on from there",
    ]
    (tmp_path / "data.bin").write_bytes(CONTENT)
    assert fetch(file, tmp_path).read_bytes() == CONTENT
    assert len(host.requests) == 1


@pytest.mark.parametrize("kind", [plain, packed])
@pytest.mark.parametrize("content", [b"", b"<html>"])
def test_a_wrong_file_that_was_put_there_is_an_error_and_stays(host, tmp_path, kind, content):
    path = tmp_path / kind(host).name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"wrong checksum|no complete gzip|is empty") as caught:
        fetch(kind(host), tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "delete it or move it away, and it is fetched again" in str(caught.value)
    assert path.read_bytes() == content
    assert (names(tmp_path), host.requests) == ([path.name], [])


# Recorded checksums ----------------------------------------------------------------------------------------------


def test_the_first_checksum_is_recorded_as_sha256sum_does(host, tmp_path):
    other = "0" * 64 + "  other.json.gz\n"
    (tmp_path / "SHA256SUMS").write_text(other)
    fetch(packed(host), tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text() == other + f"{sha256(PACKED)}  data.json.gz\n"
    assert names(tmp_path) == ["SHA256SUMS", "data.json.gz"]


def test_the_checksum_of_a_file_put_there_by_hand_is_recorded(gone, tmp_path):
    (tmp_path / "data.json.gz").write_bytes(PACKED)
    fetch(PublicFile("data.json.gz", (gone,)), tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text() == f"{sha256(PACKED)}  data.json.gz\n"


def test_a_file_that_changed_since_is_an_error_and_stays(host, tmp_path):
    changed = gzip.compress(b"{}", mtime=0)
    fetch(packed(host), tmp_path).write_bytes(changed)
    with pytest.raises(ValueError, match=r"data\.json\.gz: wrong checksum .* delete its line in .*SHA256SUMS"):
        fetch(packed(host), tmp_path)
    assert (tmp_path / "data.json.gz").read_bytes() == changed


def test_a_file_that_its_home_changed_is_fetched_once_its_line_is_deleted(host, tmp_path):
    fetch(packed(host), tmp_path).unlink()
    host.files["/data.json.gz"] = gzip.compress(b"{}", mtime=0)
    with pytest.raises(ConnectionError, match=r"if it was published anew, delete its line in .*SHA256SUMS"):
        fetch(packed(host), tmp_path)
    assert names(tmp_path) == ["SHA256SUMS"]
    (tmp_path / "SHA256SUMS").unlink()
    fetch(packed(host), tmp_path)
    assert sha256(host.files["/data.json.gz"]) in (tmp_path / "SHA256SUMS").read_text()


def test_a_faulty_line_among_the_checksums_is_named(host, tmp_path):
    (tmp_path / "SHA256SUMS").write_bytes(b"0" * 64 + b" *good\n\xff data.json.gz\n")
    with pytest.raises(ValueError, match="SHA256SUMS, line 2: not SHA-256, two spaces and a name; correct it or"):
        fetch(packed(host), tmp_path)


# Data sets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", "movies", "amazon-2018", "amazon-2023", "movielens:", "movielens:x", "microlens:50k", "amazon:Books", ":x"],
)
def test_an_unknown_name_is_told_the_known_ones(name, tmp_path):
    forms = "movielens, microlens, amazon-2018:CATEGORY, amazon-2023:CATEGORY"
    with pytest.raises(ValueError, match=f"{name!r} is no data set to fetch; write one of {forms}"):
        download(name, tmp_path)


@pytest.mark.parametrize(
    "category", ["", "Gift Cards", "../etc", "a/b", "a?b", "a%2Fb", "Büros", "Books\n", "{category}"]
)
def test_a_category_has_letters_digits_and_underscores_only(category, tmp_path):
    with pytest.raises(ValueError, match=r"letters, digits and underscores only; write it .* amazon-2023:Gift_Cards"):
        download(f"amazon-2023:{category}", tmp_path)
    assert names(tmp_path) == []


def test_each_data_set_has_a_home_hosts_and_files():
    assert list(HOMES) == list(HOSTS) == list(PATHS)
    data_sets = [
        public_files(name) for name in ("movielens", "microlens", "amazon-2018:Gift_Cards", "amazon-2023:Books")
    ]
    assert [[file.name for file in files] for files in data_sets] == [
        ["ml-latest-small.zip"],
        ["MicroLens-50k_pairs.tsv", "MicroLens-50k_titles.csv"],
        ["Gift_Cards_5.json.gz", "meta_Gift_Cards.json.gz"],
        ["Books.jsonl.gz", "meta_Books.jsonl.gz"],
    ]
    for file in [file for files in data_sets for file in files]:
        assert file.home in HOMES.values()
        assert all(re.fullmatch(rf"https://[\w./-]+/{re.escape(file.name)}", address) for address in file.addresses)
        assert bool(file.sha256) == ("Books" not in file.name)
    assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in SHA256.values())


def serve(host, monkeypatch, name, **files: bytes):
    """Let a host, at the paths of its real ones, be the only one of a data set."""
    source = name.partition(":")[0]
    monkeypatch.setitem(HOSTS, source, (host.address,))
    at = {file.name: file.addresses[0].removeprefix(host.address) for file in public_files(name)}
    host.files |= {at[file]: content for file, content in files.items()}


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return buffer.getvalue()


MOVIES = {
    "ratings.csv": b"userId,movieId,rating,timestamp\r\n1,7,4.5,964982703\r\n",
    "movies.csv": b"movieId,title,genres\r\n7,Heat (1995),Action|Crime\r\n",
    "links.csv": b"",
    "tags.csv": b"",
    "README.txt": b"terms",
}


@pytest.fixture
def movies(host, monkeypatch):
    """A host with a small archive that has evil members too."""
    evil = ["../x", "/tmp/x", "ml-latest-small/../../x", "ml-latest-small/sub/y", "ratings.csv", "columns.json"]
    members = {f"ml-latest-small/{name}": content for name, content in MOVIES.items()} | dict.fromkeys(evil, b"evil")
    content = archive(members)
    monkeypatch.setitem(SHA256, "ml-latest-small.zip", sha256(content))
    serve(host, monkeypatch, "movielens", **{"ml-latest-small.zip": content})
    return host


def test_movielens_takes_its_files_and_no_others_out_of_the_archive(movies, tmp_path):
    folder = tmp_path / "a" / "ml"
    assert download("movielens", folder) == f"folder:{folder}"
    assert names(folder) == sorted([*MOVIES, "ml-latest-small.zip"])
    assert {name: (folder / name).read_bytes() for name in MOVIES} == MOVIES
    assert (names(tmp_path), names(folder.parent)) == (["a"], ["ml"])
    dataset = opened(f"folder:{folder}")
    assert dataset.item(1)["title"] == "Heat (1995)"
    assert dataset.item(1)["category"] == "Action|Crime"


def test_movielens_again_mends_what_is_missing_and_overwrites_nothing(movies, tmp_path):
    download("movielens", tmp_path)
    (tmp_path / "tags.csv").unlink()
    download("movielens", tmp_path)
    assert (tmp_path / "tags.csv").exists()
    (tmp_path / "movies.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"movies.csv: not the file in ml-latest-small.zip; move it away, or name"):
        download("movielens", tmp_path)
    assert (tmp_path / "movies.csv").read_text() == "mine"
    assert len(movies.requests) == 1


def test_amazon_2023_opens(host, tmp_path, monkeypatch):
    review = {"user_id": "u", "parent_asin": "B1", "asin": "B2", "rating": 5.0, "timestamp": 1_600_000_000_000}
    item = {"parent_asin": "B1", "title": "Card"}
    name = "amazon-2023:Gift_Cards"
    files = {"Gift_Cards.jsonl.gz": review, "meta_Gift_Cards.jsonl.gz": item}
    serve(host, monkeypatch, name, **{file: gzip.compress(json.dumps(row).encode()) for file, row in files.items()})
    opens = download(name, tmp_path)
    assert opens == f"amazon:{tmp_path}/Gift_Cards.jsonl.gz"
    assert repr(opened(opens)) == "RecDataset(Gift_Cards: 1 user, 1 item, 1 interaction)"
    assert names(tmp_path) == ["Gift_Cards.jsonl.gz", "SHA256SUMS", "meta_Gift_Cards.jsonl.gz"]


def test_a_folder_named_from_here_or_home_is_returned_in_full(host, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for file in ("MicroLens-50k_pairs.tsv", "MicroLens-50k_titles.csv"):
        monkeypatch.setitem(SHA256, file, sha256(file.encode()))
    serve(host, monkeypatch, "microlens", **{file: file.encode() for file in SHA256 if file.startswith("Micro")})
    assert download("microlens", "~/lens") == download("microlens", "lens") == f"microlens:{tmp_path}/lens"


@pytest.mark.parametrize(
    ("name", "folder", "opens", "size"),
    [
        ("amazon-2018:Gift_Cards", "amazon-2018-raw", "amazon:{}/Gift_Cards_5.json.gz", (458, 148, 2_972 - 3)),
        (
            "amazon-2018:Magazine_Subscriptions",
            "amazon-2018-raw",
            "amazon:{}/Magazine_Subscriptions_5.json.gz",
            (348, 157, 2_375 - 47),
        ),
        ("microlens", "microlens-50k", "microlens:{}", (50_000, 19_220, 359_708)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_real_files_pass_their_checksums_and_open(real, host, tmp_path, monkeypatch, name, folder, opens, size):
    file_names = [file.name for file in public_files(name)]
    serve(host, monkeypatch, name, **{file: (real / folder / file).read_bytes() for file in file_names})
    setting = download(name, tmp_path)
    assert setting == opens.format(tmp_path)
    assert names(tmp_path) == sorted(file_names)  # their checksums stand in the code
    dataset = opened(setting)
    assert (dataset.num_users, dataset.num_items, dataset.num_interactions) == size


def test_the_real_movielens_opens(real, host, tmp_path, monkeypatch):
    members = {}
    for name, checksum in MOVIELENS_MEMBERS.items():
        content = (real / "movielens-posters" / name).read_bytes()
        content = content.replace(b"\n", b"\r\n") if name.endswith(".csv") else content  # our copy lost the CRs
        assert sha256(content) == checksum
        members[f"ml-latest-small/{name}"] = content
    content = archive(members)
    monkeypatch.setitem(SHA256, "ml-latest-small.zip", sha256(content))
    serve(host, monkeypatch, "movielens", **{"ml-latest-small.zip": content})
    dataset = opened(download("movielens", tmp_path))
    assert (dataset.num_users, dataset.num_items, dataset.num_interactions) == (610, 9_724, 100_836)


def test_the_command_says_where_the_terms_stand_and_how_to_open(movies, tmp_path, capsys):
    main("movielens", str(tmp_path))
    terms, opens = capsys.readouterr().out.splitlines()
    assert HOMES["movielens"] in terms
    assert opens == f"Open it with MMREC_DATA=folder:{tmp_path}"
    with pytest.raises(SystemExit, match="'films' is no data set to fetch; write one of"):
        main("films", str(tmp_path))
