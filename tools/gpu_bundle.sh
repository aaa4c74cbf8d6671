#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes build/gpu-bundle.tar.xz: all that a machine with a GPU but without network and packages needs.
#   the tree                 ./run gpu works in it as in a checkout
#   bundle/bin               binaries for sm_90, should the build there fail
#   bundle/deps              headers, CMake packages and shared libraries of Debian's development packages
#   bundle/googletest        sources (Debian's package googletest)
#   bundle/with_libs         runs a command with these libraries
# Usage: gpu_bundle.sh BIN PACKAGE...: the programs that gpu_targets.sh made, and the development packages that a
# rebuild needs
set -euo pipefail
cd "$(dirname "$0")/.."
programs=$1
shift
limit=$((25 << 20))
archive=build/gpu-bundle.tar.xz
work=build/gpu-bundle/belfry-gpu
libs=usr/lib/x86_64-linux-gnu

rm -rf build/gpu-bundle
mkdir -p "$work/bundle/bin" "$work/bundle/deps/$libs" "$work/bundle/deps/usr/bin"
git ls-files -z -co --exclude-standard | while IFS= read -r -d '' file; do
  if [ -f "$file" ]; then printf '%s\0' "$file"; fi
done | tar -c --null -T - | tar -x -C "$work"
git rev-parse HEAD >"$work/bundle/commit"
git status --porcelain | grep -v '^?? validation/runs/' | grep -q . && echo dirty >"$work/bundle/dirty"

# Binaries, with the libraries that they need; those of the C and C++ run time go into a folder of their own.
needed() { ldd "$@" | awk '$3 ~ /^\// { print $3 }' | sort -u; }
cp -t "$work/bundle/bin" "$programs"/*
strip "$work"/bundle/bin/*
mkdir -p "$work/bundle/lib-base"
for library in $(needed "$work"/bundle/bin/* "$(command -v pkgconf)"); do
  case $(basename "$library") in
    libc.so.* | libm.so.* | ld-linux* | libpthread* | libdl* | librt* | libnv* | libcu*) ;;
    libstdc++.so.* | libgcc_s.so.*) cp -L "$library" "$work/bundle/lib-base/" ;;
    *) cp -L "$library" "$work/bundle/deps/$libs/" ;;
  esac
done

# What a rebuild needs. Archives go along only where a CMake package insists on them.
for package; do
  dpkg -L "$package" | grep -E "^/usr/(include|lib|share/(cmake|pkgconfig|TBB|nlohmann))" || true
done | sort -u | grep -vE '/(doc|man)/|lib(crypto|ssl|dnnl|z|zstd)\.a$' >build/gpu-bundle/files
while IFS= read -r file; do
  if [ -f "$file" ] || [ -h "$file" ]; then
    mkdir -p "$work/bundle/deps$(dirname "$file")"
    cp -P "$file" "$work/bundle/deps$file"
    [ ! -h "$file" ] || cp -L "$file" "$work/bundle/deps$(dirname "$file")/$(readlink "$file" | xargs basename)"
  fi
done <build/gpu-bundle/files
# CMake packages name libraries by their full version.
for library in "$work/bundle/deps/$libs"/*.so*; do
  name=$(basename "$library")
  full=$(basename "$(readlink -f "/$libs/$name")")
  [ -e "$work/bundle/deps/$libs/$full" ] || ln -s "$name" "$work/bundle/deps/$libs/$full"
done
cp -L "$(command -v pkgconf)" "$work/bundle/deps/usr/bin/pkgconf"
cp -r /usr/src/googletest "$work/bundle/googletest"

cat >"$work/bundle/with_libs" <<'SH'
#!/usr/bin/env bash
# with_libs COMMAND...: runs it with the libraries of this folder. Those of the C++ run time are taken only where
# the machine's own are too old; NVIDIA's are the toolkit's, else those of the Python packages.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
path=$here/deps/usr/lib/x86_64-linux-gnu
if LD_LIBRARY_PATH=$path ldd "$here/bin/belfry" 2>&1 | grep -q "GLIBCXX.*not found\|libstdc++.*not found"; then
  path=$path:$here/lib-base
fi
nvidia=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)
for folder in /usr/local/cuda/lib64 "$nvidia"/cu13/lib "$nvidia"/cublas/lib; do
  [ -d "$folder" ] && path=$path:$folder
done
LD_LIBRARY_PATH=$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$@"
SH
cat >"$work/bundle/pkg-config" <<'SH'
#!/usr/bin/env bash
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
deps=$here/deps
export PKG_CONFIG_SYSROOT_DIR=$deps PKG_CONFIG_LIBDIR=$deps/usr/lib/x86_64-linux-gnu/pkgconfig:$deps/usr/share/pkgconfig
LD_LIBRARY_PATH=$deps/usr/lib/x86_64-linux-gnu exec "$deps/usr/bin/pkgconf" "$@"
SH
chmod +x "$work/bundle/with_libs" "$work/bundle/pkg-config"

# Like files side by side: xz then finds the kernels that several binaries share.
(cd build/gpu-bundle && tar -c --sort=name --owner=0 --group=0 belfry-gpu | xz -T1 -6 --lzma2=preset=6,dict=128MiB) >"$archive"
size=$(stat -c %s "$archive")
echo "$archive: $((size >> 10)) KiB, $(find "$work/bundle/bin" -type f | wc -l) binaries"
if [ "$size" -gt "$limit" ]; then
  echo "error: $archive is larger than 25 MiB" >&2
  exit 1
fi
