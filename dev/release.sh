#!/usr/bin/env bash
# Build, check and sign a release in dist/. It neither uploads nor tags: docs/releasing.md lists what follows.
# Usage: dev/release.sh FOLDER-OF-VENV
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1
stop() { echo "No release: $*" >&2; exit 1; }

version=$("$venv/bin/python" -c "import helmr_provider; print(helmr_provider.__version__)")
[ -z "$(git status --porcelain)" ] || stop "the work tree has changes that are not committed."
! git rev-parse --quiet --verify "refs/tags/v$version" >/dev/null || stop "there is a tag v$version; raise __version__ in helmr_provider/__init__.py."
grep -Eq "^## $version \([0-9]{4}-[0-9]{2}-[0-9]{2}\)$" CHANGELOG.md || stop "CHANGELOG.md has no heading '## $version (YYYY-MM-DD)'."

# Files carry the time of the commit, so that anyone can build the same bytes from the tag.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
dev/try_wheel.sh "$venv"
again=$(mktemp -d)
trap 'rm -rf "$again"' EXIT
"$venv/bin/python" -m build --no-isolation --outdir "$again" . >/dev/null
for file in dist/*; do
    cmp "$file" "$again/$(basename "$file")" || stop "building twice gives different bytes."
done

"$venv/bin/python" - "$version" dist/*.whl <<'PROGRAM'
import sys
import zipfile

from packaging.metadata import Metadata

version, wheel = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Metadata.from_email(archive.read(name), validate=True)
assert (metadata.name, str(metadata.version)) == ("airflow-provider-helmr", version), metadata.version
assert metadata.description_content_type == "text/markdown"
PROGRAM

(cd dist && sha512sum -- *.whl *.tar.gz >SHA512SUMS)
for file in dist/*.whl dist/*.tar.gz dist/SHA512SUMS; do
    gpg --batch --yes --armor --detach-sign "$file"
    gpg --batch --verify "$file.asc" "$file" 2>/dev/null
done
ls dist
echo "Next: docs/releasing.md, from 'Upload'."
