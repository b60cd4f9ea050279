#!/usr/bin/env bash
# The one command of this project. It sets up .venv beside itself when that is needed, then runs a job or a check:
#
#   ./spark-submit.sh                        the jobs, in pipeline order (also --help)
#   ./spark-submit.sh JOB [OPTIONS]          run a job; JOB --help explains it
#   ./spark-submit.sh pack [--out DIR]       put assay, its libraries and its settings into a folder for a cluster
#   ./spark-submit.sh test [PYTEST ARGS]     all checks and all tests with coverage; with arguments, pytest alone
#   ./spark-submit.sh checks                 format, lint, types, import contract
#   ./spark-submit.sh format                 put the format right, and what the linter can
#   ./spark-submit.sh benchmark NAME ...     one of tests/benchmarks
#   ./spark-submit.sh matrix [CELL ...]      tests under other versions of Python, Spark and MLflow
#   ./spark-submit.sh lock [--upgrade]       write the lock files anew after a change in pyproject.toml
#
# ASSAY_PYTHON names the Python to build .venv with, JAVA_HOME the Java to run Spark on. ASSAY_EXTRAS=neural adds what
# engine.name=lstm and gru learn with (PyTorch, some 5 GB on Linux); once there, it stays.
# Exit codes: 0; 1 our failure; 2 something to put right first; 3 a quality gate refused.
set -euo pipefail

here=$(cd -P -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
venv=$here/.venv
python=$venv/bin/python
log=$venv/setup.log
stamp=$venv/.stamp # "KIND FINGERPRINT FOLDER", written last: an environment without it was never finished

# Java and Python read file names in the locale's encoding; in any but UTF-8 a folder named "données" is out of reach.
[[ $(locale charmap 2>/dev/null) == UTF-8 ]] || export LC_ALL=C.UTF-8
# The environment is whole: another Spark's Python path, or settings for another pip, would break it.
unset SPARK_HOME PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX
# Many containers set this; each process and each Spark worker would then compile its libraries anew, for 5 to 10 s.
unset PYTHONDONTWRITEBYTECODE

# Tools that answer Ctrl-C with an exit code of their own would otherwise be followed by the next one.
trap 'exit 130' INT

say() { printf 'assay: %s\n' "$*" >&2; }

die() { # STATUS MESSAGE
  say "$2"
  exit "$1"
}

# --- the environment ---------------------------------------------------------------------------------------------

digest() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1; }

# Version and path of the interpreter behind a Python, if it is one that the lock files are made for. The base
# interpreter, because the one found may be that of the very .venv which is about to be replaced.
probe() { # PYTHON
  "$1" -c 'import sys
if not (3, 10) <= sys.version_info[:2] <= (3, 12): sys.exit(1)
print("%d.%d.%d" % sys.version_info[:3], getattr(sys, "_base_executable", sys.executable))' 2>/dev/null
}

wanted_python_version() {
  if [[ -n ${ASSAY_PYTHON:-} ]]; then
    probe "$ASSAY_PYTHON" | cut -d ' ' -f 1
  else
    sed -n 's/^version\(_info\)\{0,1\} = //p' "$venv/pyvenv.cfg" 2>/dev/null
  fi
}

fingerprint() {
  {
    wanted_python_version
    cat -- "$here"/{requirements-uv,requirements,requirements-neural,requirements-dev}.lock "$here/pyproject.toml"
  } | digest
}

contains() { # KIND KIND: whether an environment of the first has all of the second
  [[ $1 == "$2" || $1 == dev || ($1 == neural && $2 == runtime) ]]
}

wanted_kind() { # of the environment that jobs run in
  case ${ASSAY_EXTRAS:-} in
    '') echo runtime ;;
    neural) echo neural ;;
    *) die 2 "ASSAY_EXTRAS=$ASSAY_EXTRAS: the only extra is neural" ;;
  esac
}

is_ready() { # KIND: runtime, neural or dev
  local kind print folder
  [[ -x $python && -r $stamp ]] || return 1
  read -r kind print folder <"$stamp" || return 1
  contains "$kind" "$1" && [[ $folder == "$here" && $print == "$(fingerprint)" ]]
}

set_up() { # KIND
  [[ -z ${ASSAY_PYTHON:-} ]] || probe "$ASSAY_PYTHON" >/dev/null ||
    die 2 "ASSAY_PYTHON=$ASSAY_PYTHON is not a Python 3.10, 3.11 or 3.12"
  is_ready "$1" && return
  locked build "$1"
}

# One set-up at a time in this folder; where there is no flock (macOS), people take turns by themselves.
locked() { # COMMAND...
  { mkdir -p "$venv" && [[ -w $venv ]]; } 2>/dev/null || die 2 "cannot write to $venv: use a copy of your own"
  # A user without a home of their own, as in many containers, has nowhere to keep downloads.
  local cache=${UV_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-}/.cache}}
  { mkdir -p -- "$cache" && [[ -w $cache ]]; } 2>/dev/null || export UV_NO_CACHE=1
  (
    trap 'exit 130' INT # traps do not reach into subshells
    if command -v flock >/dev/null && ! flock --nonblock 9; then
      say "waiting for another set-up of this folder to end"
      flock 9
    fi
    "$@"
  ) 9>"$venv/.setup-lock"
}

build() { # KIND
  local kind=$1 previous='' folder='' built_with='' version='' base=''
  if is_ready "$kind"; then return; fi # by the one that was waited for
  if [[ -r $stamp ]]; then read -r previous _ folder <"$stamp"; fi
  if [[ -x $python ]]; then built_with=$(probe "$python" | cut -d ' ' -f 1) || true; fi
  : >"$log"
  # An unfinished environment may hold half a package; scripts and the link to the code do not survive a move.
  if [[ -z $previous || $folder != "$here" || -z $built_with || $built_with != "$(wanted_python_version)" ]]; then
    find_python
  fi
  say "setting up .venv, once (about a minute; details in .venv/setup.log)"
  [[ -z $base ]] || make_venv "$version" "$base"
  # What contains more stays, once it is there.
  if [[ -n $previous ]] && contains "$previous" "$kind"; then kind=$previous; fi
  rm -f -- "$stamp"
  install_uv
  local lock=$here/requirements.lock
  [[ $kind == runtime ]] || lock=$here/requirements-$kind.lock
  say "installing the libraries of ${lock##*/}"
  install_libraries "$lock"
  uv_pip install --no-deps --no-build-isolation --editable "$here" || give_up "installing assay itself"
  printf '%s %s %s\n' "$kind" "$(fingerprint)" "$here" >"$stamp.part"
  mv -f -- "$stamp.part" "$stamp"
}

make_venv() { # VERSION PYTHON
  local version=$1 base=$2
  say "making an environment with Python $version"
  # What this script keeps there stays: the lock being held, the log being written, jars with their own manifest.
  find "$venv" -mindepth 1 -maxdepth 1 ! -name .setup-lock ! -name setup.log ! -name jars -exec rm -rf -- {} +
  if "$base" -c 'import ensurepip' 2>/dev/null; then
    detailed "$base" -m venv --prompt assay "$venv" || give_up "python -m venv"
  else # Debian's Python without python3-venv, on a machine with uv
    detailed uv venv --allow-existing --seed --prompt assay --python "$base" "$venv" || give_up "uv venv"
  fi
}

# Sets version and base: the first Python that can make an environment, else the first that can with help.
find_python() {
  local name found plain=''
  while read -r name; do
    found=$(probe "$name") || continue
    read -r version base <<<"$found"
    if "$base" -c 'import ensurepip, venv' 2>/dev/null; then return; fi
    plain=${plain:-$found}
  done < <(if [[ -n ${ASSAY_PYTHON:-} ]]; then echo "$ASSAY_PYTHON"; else type -aP python3.11 python3.12 python3.10 python3 python; fi)
  [[ -n $plain ]] || die 2 "needs Python 3.10, 3.11 or 3.12, and none is on the PATH: install one, or set ASSAY_PYTHON"
  read -r version base <<<"$plain"
  if command -v uv >/dev/null; then return; fi
  local package=python${version%.*}-venv
  if command -v apt-get >/dev/null && install_packages "$package" && "$base" -c 'import ensurepip' 2>/dev/null; then
    return
  fi
  die 2 "$base cannot make environments: run \`sudo apt-get install -y $package\` (or your system's twin), then this again"
}

install_uv() {
  if [[ -x $venv/bin/uv ]] && cmp -s -- "$here/requirements-uv.lock" "$venv/.uv-lock"; then return; fi
  detailed "$python" -m pip install --disable-pip-version-check --no-deps --require-hashes \
    -r "$here/requirements-uv.lock" || give_up "installing uv"
  cp -- "$here/requirements-uv.lock" "$venv/.uv-lock"
}

# pyspark comes as source: what builds it (setuptools) is pinned too. pip knows mirrors and certificates that are set up
# for pip only, so it gets its turn where uv fails.
install_libraries() { # LOCK FILE
  if uv_pip sync --require-hashes --build-constraints "$here/requirements-uv.lock" "$1"; then return; fi
  say "uv did not succeed; trying with pip, which is slower"
  detailed "$python" -m pip install --disable-pip-version-check --no-deps --require-hashes -r "$1" ||
    give_up "installing ${1##*/}"
}

uv_pip() {
  detailed "$venv/bin/uv" pip "$@" --python "$python"
}

detailed() { # COMMAND...
  printf '\n$ %s\n' "$*" >>"$log"
  "$@" >>"$log" 2>&1
}

give_up() { # WHAT
  say "set-up failed at: $1. The end of $log:"
  tail -n 15 -- "$log" >&2
  exit 1
}

# --- Java and Delta's jars ---------------------------------------------------------------------------------------

# Runs a package manager where that needs no question: as root, or by a sudo that asks nothing.
privileged() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif sudo -n true 2>/dev/null; then
    sudo -n "$@"
  else
    return 1
  fi
}

can_install() { [[ $(id -u) == 0 ]] || sudo -n true 2>/dev/null; }

# The first of the packages that installs; only words of one's own go to the terminal.
install_packages() { # PACKAGE...
  local package manager=()
  can_install || return 1
  if command -v apt-get >/dev/null; then
    manager=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)
    detailed privileged "${manager[@]}" update || true # a repository out of reach may not matter
    manager+=(install -y --no-install-recommends)
  elif command -v dnf >/dev/null; then
    manager=(dnf install -y)
  elif command -v apk >/dev/null; then
    manager=(apk add)
  else
    return 1
  fi
  for package in "$@"; do
    say "installing $package with the system's package manager"
    if detailed privileged "${manager[@]}" "$package"; then return; fi
  done
  return 1
}

# Spark 4.1 needs Java 17 to 22 (its Hadoop fails from 23 on) with jdk.incubator.vector, which slim builds leave out.
# Reading the release file that every JDK carries is quicker than asking java.
java_fits() { # JAVA HOME
  local key value version='' modules=jdk.incubator.vector
  [[ -x $1/bin/java ]] || return 1
  if [[ -r $1/release ]]; then
    while IFS='=' read -r key value; do
      case $key in
        JAVA_VERSION) version=${value//\"/} ;;
        MODULES) modules=$value ;;
      esac
    done <"$1/release"
  else
    version=$("$1/bin/java" -version 2>&1 | sed -n 's/.* version "\([^"]*\)".*/\1/p')
  fi
  version=${version%%[.+-]*}
  [[ $version =~ ^[0-9]+$ && $version -ge 17 && $version -le 22 && $modules == *jdk.incubator.vector* ]]
}

find_java() { # sets and exports JAVA_HOME
  local java home
  if [[ -n ${JAVA_HOME:-} ]] && java_fits "$JAVA_HOME"; then return; fi
  while read -r java; do
    home=$(dirname -- "$(dirname -- "$(readlink -f -- "$java")")")
    # A version manager's shim is not where Java is; Java itself knows.
    [[ -r $home/release ]] ||
      home=$("$java" -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java\.home = //p') || continue
    if java_fits "$home"; then export JAVA_HOME=$home && return; fi
  done < <(type -aP java)
  for home in /usr/lib/jvm/*17* /usr/lib/jvm/*21* /usr/lib/jvm/* /Library/Java/JavaVirtualMachines/*/Contents/Home; do
    if java_fits "$home"; then export JAVA_HOME=$home && return; fi
  done
  return 1
}

need_java() {
  if find_java; then return; fi
  local packages=() install="install a Java 17 or 21"
  if command -v apt-get >/dev/null; then
    packages=(openjdk-17-jre-headless openjdk-21-jre-headless)
    install="run \`sudo apt-get install -y ${packages[0]}\` (or ${packages[1]})"
  elif command -v dnf >/dev/null; then
    packages=(java-17-openjdk-headless java-21-openjdk-headless)
    install="run \`sudo dnf install -y ${packages[0]}\` (or ${packages[1]})"
  elif command -v apk >/dev/null; then
    packages=(openjdk17-jre-headless openjdk21-jre-headless)
    install="run \`sudo apk add ${packages[0]}\` (or ${packages[1]})"
  fi
  if [[ ${#packages[@]} -gt 0 ]] && install_packages "${packages[@]}" && find_java; then return; fi
  die 2 "Spark needs Java 17 or 21, and none was found: $install, or set JAVA_HOME"
}

# A session start without these would fetch them itself, each time, with pages of output.
need_jars() {
  local wanted
  wanted=$(cat -- "$here/lib/assay/runtime/jars.py" "$here/requirements.lock" | digest)
  [[ -r $venv/jars/.stamp && $(<"$venv/jars/.stamp") == "$wanted" ]] || locked fetch_jars "$wanted"
}

fetch_jars() { # STAMP
  if [[ -r $venv/jars/.stamp && $(<"$venv/jars/.stamp") == "$1" ]]; then return; fi
  say "fetching Delta's jars"
  "$python" -m assay.runtime.jars >>"$log" || exit "$?" # it says itself what is wrong
  printf '%s\n' "$1" >"$venv/jars/.stamp"
}

need_spark() {
  need_java
  need_jars
}

# --- the commands ------------------------------------------------------------------------------------------------

asks_only() { # ARGUMENTS: whether they ask for words, for which no Spark is needed
  local argument
  for argument in "$@"; do
    case $argument in -h | --help | --version) return 0 ;; esac
  done
  return 1
}

# Python is started by its path, not by the script's first line, which cannot hold every folder's name. And it is
# Python that starts the JVM, through pyspark (PYSPARK_SUBMIT_ARGS), rather than Spark's own spark-submit that starts
# Python: so the job keeps the terminal, for its progress and its exit code, and Spark's messages go to a file.
# What it says of commands names this script, as it was called.
assay() { ASSAY_PROGRAM=$0 exec "$python" "$venv/bin/assay" "$@"; }

tool() { # MODULE ARGUMENTS...
  printf '==> %s\n' "$*" >&2
  "$python" -m "$@"
}

# Each runs whatever became of the one before: one visit shows all there is to do.
checks() {
  local status=0
  tool ruff format --check . || status=1
  tool ruff check . || status=1
  tool mypy || status=1
  printf '==> lint-imports\n' >&2
  "$python" "$venv/bin/lint-imports" || status=1
  return "$status"
}

tests() {
  local status=0
  if [[ $# -gt 0 ]]; then
    tool pytest "$@"
    return
  fi
  checks || status=$?
  # Two at once: what starts processes of its own waits for them most of the time. tests/conftest.py deals them.
  tool pytest -n 2 --dist loadscope --no-loadscope-reorder --cov --cov-report=term --cov-fail-under=90 || status=$?
  return "$status"
}

lock_compile() {
  "$venv/bin/uv" pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
    --custom-compile-command './spark-submit.sh lock' "$@"
}

# The lock files are for every platform and all three Pythons. hatchling and editables build assay itself, offline.
lock() {
  local version base
  if [[ ! -x $venv/bin/uv ]]; then
    find_python
    make_venv "$version" "$base"
  fi
  install_uv
  lock_compile "$@" --output-file requirements-uv.lock - <<<$'uv\nsetuptools'
  lock_compile "$@" --extra demo --extra pack --output-file requirements.lock pyproject.toml - <<<$'hatchling\neditables'
  lock_compile "$@" --extra demo --extra pack --extra neural --constraints requirements.lock \
    --output-file requirements-neural.lock pyproject.toml - <<<$'hatchling\neditables'
  lock_compile "$@" --extra demo --extra pack --extra dev --constraints requirements-neural.lock \
    --output-file requirements-dev.lock pyproject.toml - <<<$'hatchling\neditables'
}

main() {
  local command=${1:-} kind
  # A shell asks what may come next (`assay completion`): answered where the environment is there, never by making it.
  if [[ -n ${_ASSAY_COMPLETE:-} ]]; then
    if [[ -x $python && -r $venv/bin/assay ]]; then exec "$python" "$venv/bin/assay"; fi
    exit 0
  fi
  case $command in
    '' | -h | --help)
      set_up runtime
      (assay --help)
      sed -n 's/^#   \(.\/spark-submit.sh [ptcfblm].*\)/  \1/p' "$here/spark-submit.sh"
      ;;
    test)
      set_up dev
      need_spark
      cd -- "$here"
      tests "${@:2}"
      ;;
    checks)
      set_up dev
      cd -- "$here"
      checks
      ;;
    format)
      set_up dev
      cd -- "$here"
      tool ruff format .
      tool ruff check --fix .
      ;;
    benchmark)
      set_up dev
      need_spark
      PYTHONPATH=$here/tests exec "$python" -m benchmarks "${@:2}"
      ;;
    matrix)
      set_up dev
      need_java
      exec "$python" "$here/tests/matrix.py" "${@:2}"
      ;;
    pack)
      kind=$(wanted_kind)
      set_up "$kind"
      asks_only "$@" || need_spark
      [[ $kind == runtime ]] || set -- "$@" --extra "$kind"
      exec "$python" -m assay.packing --extra demo "${@:2}"
      ;;
    lock)
      cd -- "$here"
      locked lock "${@:2}"
      ;;
    *)
      kind=$(wanted_kind)
      set_up "$kind"
      # What a doctor says of a missing Java is better than nothing being done.
      [[ $command != doctor ]] || find_java || true
      [[ $command =~ ^(init|serve|registry|tables|doctor|completion)$ ]] || asks_only "$@" || need_spark
      assay "$@"
      ;;
  esac
}

main "$@"
