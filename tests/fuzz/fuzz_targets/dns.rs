#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tidings_fuzz::targets::dns(bytes, &mut Default::default());
});
