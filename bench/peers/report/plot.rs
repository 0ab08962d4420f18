//! CPU time per query as horizontal bars.

use std::fmt::Write as _;

use crate::stats::Median;

/// One server.
pub struct Bar {
    /// Its name.
    pub name: &'static str,
    /// CPU us per query.
    pub cpu: Median,
    /// The share of it in its own code, 0 to 1.
    pub user: f64,
}

/// Of the whole picture, in pixels.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 64.0;
const ROW: f64 = 30.0;

/// The picture. The kernel's part of each bar stands left, so that what a server's own code costs is what sticks out.
#[must_use]
pub fn svg(bars: &[Bar], below: &str) -> String {
    let height = TOP + ROW * bars.len() as f64 + 40.0;
    let longest = bars.iter().map(|bar| bar.cpu.high).fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / longest;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"17\" font-weight=\"bold\">CPU time per query, one busy worker, names that exist \
         (us)</text>\n\
         <rect x=\"16\" y=\"38\" width=\"12\" height=\"12\" fill=\"#b9c4cf\"/><text x=\"34\" y=\"49\">kernel</text>\n\
         <rect x=\"96\" y=\"38\" width=\"12\" height=\"12\" fill=\"#2868a8\"/><text x=\"114\" y=\"49\">the server's own code; \
         line: middle half of all rounds</text>\n"
    );
    for (at, bar) in bars.iter().enumerate() {
        let (y, middle) = (TOP + ROW * at as f64, TOP + ROW * at as f64 + ROW / 2.0);
        let (whole, own) = (bar.cpu.median * scale, bar.cpu.median * scale * bar.user);
        let (from, to) = (LEFT + bar.cpu.low * scale, LEFT + bar.cpu.high * scale);
        let Median { median, .. } = bar.cpu;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"18\" fill=\"#b9c4cf\"/>\
             <rect x=\"{:.1}\" y=\"{:.1}\" width=\"{own:.1}\" height=\"18\" fill=\"#2868a8\"/>\
             <path d=\"M{from:.1} {middle:.1}H{to:.1}\" stroke=\"#000\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{median:.2}</text>",
            LEFT - 10.0,
            middle + 5.0,
            bar.name,
            y + 6.0,
            whole - own,
            LEFT + whole - own,
            y + 6.0,
            to.max(LEFT + whole) + 8.0,
            middle + 5.0,
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"16\" y=\"{:.1}\" font-size=\"12\" fill=\"#555\">{}</text>",
        height - 12.0,
        escape(below)
    );
    out.push_str("</svg>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
