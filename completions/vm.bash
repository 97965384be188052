# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# shellcheck shell=bash
#
# Completion of vm(8) for bash. vm itself knows what may follow.

_khyve_vm()
{
	local line=${COMP_LINE:0:COMP_POINT} word skip
	local -a words
	read -ra words <<< "$line"
	if [[ $line == *[[:space:]] ]]; then
		words+=("")
	fi
	word=${words[-1]}
	# bash ends words at these; of a candidate it wants what is behind the last one.
	skip=${word%"${word##*[@=:]}"}
	COMPREPLY=()
	while IFS= read -r line; do
		COMPREPLY+=("${line#"$skip"}")
	done < <("${words[0]}" _complete -- "${words[@]:1}" 2> /dev/null)
	# A value follows behind "KEY=".
	if [[ ${COMPREPLY[0]-} == *= ]]; then
		compopt -o nospace 2> /dev/null
	fi
}
complete -o default -F _khyve_vm vm
