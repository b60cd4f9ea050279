#!/usr/bin/env bash
# assay, packed: ./run.sh JOB [OPTIONS], as ./spark-submit.sh JOB of its checkout. Needs Java 17 or 21 and Python @VERSION@
# on @PLATFORM@; executors of a cluster need that Python, and get all else from environment.tar.gz.
#
# The folder may lie anywhere. Its conf is the one that counts. ASSAY_PYTHON names the Python, JAVA_HOME the Java;
# ASSAY_UNPACKED names a folder for the libraries of this machine, where this one cannot be written.
set -euo pipefail

here=$(cd -P -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
environment=${ASSAY_UNPACKED:-$here/environment}

die() {
  printf 'assay: %s\n' "$*" >&2
  exit 2
}

# Unpacked aside and put in place at once: of two that begin together, each finds all of it or nothing.
unpack() {
  local part=$environment.part.$$ old=$environment.old.$$
  { mkdir -p -- "$part" && [[ -w $part ]]; } 2>/dev/null ||
    die "cannot write to $(dirname -- "$environment"): name a folder of your own in ASSAY_UNPACKED"
  # shellcheck disable=SC2064
  trap "rm -rf -- '$part' '$old'" EXIT
  printf 'assay: unpacking the libraries, once\n' >&2
  tar -xzf "$here/environment.tar.gz" -C "$part" || die "cannot unpack $here/environment.tar.gz"
  cp -- "$here/packed.json" "$part/.packed"
  if [[ -e $environment ]]; then mv -T -- "$environment" "$old" 2>/dev/null || true; fi
  mv -T -- "$part" "$environment" 2>/dev/null || is_unpacked || die "cannot write to $environment"
  rm -rf -- "$part" "$old"
  trap - EXIT
}

is_unpacked() { cmp -s -- "$here/packed.json" "$environment/.packed"; }

is_unpacked || unpack

# Java and Python read file names in the locale's encoding; in any but UTF-8 a folder named "données" is out of reach.
[[ $(locale charmap 2>/dev/null) == UTF-8 ]] || export LC_ALL=C.UTF-8
# The folder is whole: another Spark, or another Python's libraries, would break it.
unset SPARK_HOME PYTHONHOME PYSPARK_PYTHON
export PYTHONPATH=$here/spark PYSPARK_DRIVER_PYTHON=$environment/bin/python PATH=$environment/bin:$PATH
export ASSAY_ENVIRONMENT=${ASSAY_ENVIRONMENT-$here/environment.tar.gz}
export ASSAY_PROGRAM=$0 ASSAY_CONF=$here/conf ASSAY_JARS=$here/jars ASSAY_CODE=$here/@CODE@
exec "$environment/bin/python" "$environment/bin/assay" "$@"
