#!/bin/sh
# Python @VERSION@ of this machine, with the libraries of the folder above: those of assay, packed for @PLATFORM@.
# Looks at ASSAY_PYTHON, at the place where it was when this was packed, and at the PATH.
[ -z "${ASSAY_LOOKS_FOR_PYTHON:-}" ] || exit 1 # found itself on the PATH
here=$(CDPATH='' cd -P -- "$(dirname -- "$0")/.." && pwd) || exit 2
for python in "${ASSAY_PYTHON:-}" '@BASE@' python@VERSION@ python3 python; do
  [ -n "$python" ] || continue
  found=$(ASSAY_LOOKS_FOR_PYTHON=1 "$python" -S -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
  [ "$found" = '@VERSION@' ] || continue
  PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$here/lib/python@VERSION@/site-packages
  export PYTHONPATH
  exec "$python" "$@"
done
echo "assay: $here was packed for Python @VERSION@ on @PLATFORM@, and $(uname -n) has none: install it there," \
  "or name it in ASSAY_PYTHON (for executors, spark.executorEnv.ASSAY_PYTHON)" >&2
exit 2
