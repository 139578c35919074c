//! Reads one digit, 64 float32 numbers in a file, with the exported classifier.

use std::ffi::{c_char, c_void, CStr};
use std::{env, fs, process, ptr};

// As in digits.h.
#[repr(C)]
struct Inputs {
    image: *const f32,
}

#[repr(C)]
struct Outputs {
    probabilities: *mut f32,
    digit: *mut i64,
}

extern "C" {
    fn digits_workspace_bytes() -> i64;
    fn digits_run(
        inputs: *const Inputs,
        params: *const c_void,
        outputs: *const Outputs,
        workspace: *mut c_void,
        workspace_bytes: usize,
    ) -> i32;
    fn digits_strerror(status: i32) -> *const c_char;
}

#[derive(Clone)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn predict(image: &[f32; 64]) -> Result<(usize, f32), String> {
    let mut probabilities = [0f32; 10];
    let mut digit = 0i64;
    // SAFETY: the arrays have the sizes that digits.h tells, and nothing else refers to them.
    unsafe {
        let bytes = usize::try_from(digits_workspace_bytes()).map_err(|error| error.to_string())?;
        let mut workspace = vec![Line([0; 64]); (bytes + 63) / 64];
        let inputs = Inputs { image: image.as_ptr() };
        let outputs = Outputs { probabilities: probabilities.as_mut_ptr(), digit: &mut digit };
        let status = digits_run(&inputs, ptr::null(), &outputs, workspace.as_mut_ptr().cast(), bytes);
        if status != 0 {
            return Err(CStr::from_ptr(digits_strerror(status)).to_string_lossy().into_owned());
        }
    }
    let answer = usize::try_from(digit).map_err(|error| error.to_string())?;
    Ok((answer, probabilities[answer]))
}

fn main() {
    let bytes = env::args().nth(1).and_then(|path| fs::read(path).ok()).filter(|bytes| bytes.len() == 256);
    let bytes = bytes.unwrap_or_else(|| {
        eprintln!("usage: main FILE (of 64 float32 numbers)");
        process::exit(2);
    });
    let mut image = [0f32; 64];
    for (pixel, bytes) in image.iter_mut().zip(bytes.chunks_exact(4)) {
        *pixel = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    match predict(&image) {
        Ok((digit, probability)) => println!("this is a {digit} (probability {probability:.3})"),
        Err(message) => {
            eprintln!("digits: {message}");
            process::exit(1);
        }
    }
}
