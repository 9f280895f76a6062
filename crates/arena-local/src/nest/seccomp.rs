//! System calls that nothing in a seat needs and that have opened kernels before. They answer
//! EPERM instead of killing, so that programs which only try them (Node tries io_uring) go on.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// `EPERM`, the same on every Linux.
const NOT_PERMITTED: u32 = 1;

/// Address families: the host's hypervisor, the kernel's ciphers, raw frames.
const FAMILIES: [(u64, &str); 3] = [(40, "AF_VSOCK"), (38, "AF_ALG"), (17, "AF_PACKET")];

/// Numbers of the denied calls on this machine, from the kernel's tables.
struct Numbers {
    arch: TargetArch,
    socket: i64,
    denied: &'static [i64],
    /// Added to a number by x32 programs, which the filter must not let through.
    alias: Option<i64>,
}

// io_uring_{setup,enter,register}, bpf, perf_event_open, add_key, request_key, keyctl, userfaultfd.
#[cfg(target_arch = "x86_64")]
const NUMBERS: Numbers = Numbers {
    arch: TargetArch::x86_64,
    socket: 41,
    denied: &[425, 426, 427, 321, 298, 248, 249, 250, 323],
    alias: Some(0x4000_0000),
};
#[cfg(target_arch = "aarch64")]
const NUMBERS: Numbers = Numbers {
    arch: TargetArch::aarch64,
    socket: 198,
    denied: &[425, 426, 427, 280, 241, 217, 218, 219, 282],
    alias: None,
};

/// Returns the filter as bubblewrap reads it: the program's instructions in the machine's order.
pub(super) fn filter() -> Result<Vec<u8>, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for offset in [Some(0), NUMBERS.alias].into_iter().flatten() {
        for number in NUMBERS.denied {
            rules.insert(number + offset, Vec::new());
        }
        let mut sockets = Vec::new();
        for (family, _) in FAMILIES {
            let is_family =
                SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family)?;
            sockets.push(SeccompRule::new(vec![is_family])?);
        }
        rules.insert(NUMBERS.socket + offset, sockets);
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(NOT_PERMITTED),
        NUMBERS.arch,
    )?;
    let program: BpfProgram = filter.try_into()?;
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
        bytes.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    Ok(bytes)
}
