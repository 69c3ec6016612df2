//! Inputs that are more than one message: steps, each an operation, the length of its operand, the operand.
//!
//! Every byte string is a script; mutation of one gives another.

/// Steps read from one script.
const STEPS_MAX: usize = 256;

/// Appends a step.
pub fn put(script: &mut Vec<u8>, operation: u8, operand: &[u8]) {
    script.push(operation);
    script.extend_from_slice(&(operand.len() as u16).to_le_bytes());
    script.extend_from_slice(operand);
}

/// The steps of a script; the last operand may be cut short.
pub fn steps(mut script: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[operation, low, high], rest) = script.split_first_chunk::<3>()?;
        let (operand, rest) = rest.split_at(rest.len().min(u16::from_le_bytes([low, high]).into()));
        script = rest;
        Some((operation, operand))
    })
    .take(STEPS_MAX)
}

/// An operand as a number, at most `most`.
pub fn number(operand: &[u8], most: u64) -> u64 {
    operand.iter().take(4).fold(0, |number, byte| number << 8 | u64::from(*byte)) % (most + 1)
}
