# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
#
# Completion of vm(8) for fish. vm itself knows what may follow.

function __khyve_vm
    set -l words (commandline -opc)
    set -l now (commandline -ct)
    $words[1] _complete -- $words[2..-1] "$now" 2>/dev/null
end
complete -c vm -f -a '(__khyve_vm)'
