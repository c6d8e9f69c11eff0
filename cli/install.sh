#!/bin/sh
# Puts ai-orchestra on the PATH as a symbolic link to this checkout, or takes it away again.
set -eu

usage() {
    cat <<'EOF'
usage: cli/install.sh [--prefix DIR] [--uninstall]

  --prefix DIR  where the link goes (default: ~/.local/bin)
  --uninstall   remove the link instead; a file that is not ours stays
EOF
}

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

prefix=
uninstall=no
while [ $# -gt 0 ]; do
    case $1 in
        --prefix)
            [ $# -ge 2 ] && [ -n "$2" ] || fail "--prefix: needs a directory." 2
            prefix=$2
            shift
            ;;
        --prefix=?*) prefix=${1#--prefix=} ;;
        --uninstall) uninstall=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) fail "'$1' is not expected here; see cli/install.sh --help." 2 ;;
    esac
    shift
done
if [ -z "$prefix" ]; then
    [ -n "${HOME:-}" ] || fail "HOME is not set; name the directory with --prefix DIR." 2
    prefix=$HOME/.local/bin
fi

script=$(dirname "$(readlink -f "$0")")/ai-orchestra
link=$prefix/ai-orchestra

# Ours is a link to an ai-orchestra of some checkout, even one that has moved away since.
is_ours() {
    [ -L "$link" ] || return 1
    case $(readlink "$link") in
        */cli/ai-orchestra) return 0 ;;
        *) return 1 ;;
    esac
}

exists() { [ -e "$link" ] || [ -L "$link" ]; }

if exists && ! is_ours; then
    fail "$link is not a link to this command line and stays as it is. Choose another --prefix DIR."
fi

if [ "$uninstall" = yes ]; then
    if exists; then
        rm "$link" || fail "$link cannot be removed."
        echo "Removed $link."
    else
        echo "Nothing to remove: $link does not exist."
    fi
    exit 0
fi

if [ "$(readlink "$link" 2>/dev/null || true)" = "$script" ]; then
    echo "Already installed: $link -> $script."
else
    mkdir -p "$prefix" 2>/dev/null || fail "$prefix cannot be made; choose another --prefix DIR."
    ln -sfn "$script" "$link" 2>/dev/null || fail "$link cannot be written; choose another --prefix DIR."
    echo "Installed $link -> $script."
fi

case ":${PATH:-}:" in
    *":$prefix:"*) ;;
    *)
        echo "$prefix is not on the PATH. Add it to your shell's profile:"
        echo "  export PATH=\"$prefix:\$PATH\""
        ;;
esac
