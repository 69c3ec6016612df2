#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tidings_fuzz::targets::frame(bytes, &mut Default::default());
});
