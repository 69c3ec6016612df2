//! Plots as SVG, written by hand: points with names over two axes.

use std::fmt::Write as _;

/// One point, and what stands beside it.
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub name: String,
    /// Points of one colour belong together.
    pub colour: &'static str,
}

/// What a plot says.
pub struct Plot<'a> {
    pub title: &'a str,
    pub x: &'a str,
    /// Drawn by its logarithm, with zero at the foot.
    pub y: &'a str,
    pub points: &'a [Point],
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

impl Plot<'_> {
    pub fn to_svg(&self) -> String {
        let most = |of: fn(&Point) -> f64| self.points.iter().map(of).fold(1.0, f64::max);
        let x_most = most(|point| point.x) * 1.05;
        let decades = most(|point| point.y).log10().ceil().max(1.0);
        let x_of = |x: f64| LEFT + x / x_most * (WIDTH - LEFT - RIGHT);
        // One decade below 1 stands for nothing at all.
        let y_of = |y: f64| HEIGHT - BOTTOM - (if y < 1.0 { 0.0 } else { 1.0 + y.log10() }) / (decades + 1.0) * (HEIGHT - TOP - BOTTOM);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut text = |x: f64, y: f64, anchor: &str, words: &str| {
            let _ = writeln!(svg, "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{}</text>", escaped(words));
        };
        text(LEFT, 22.0, "start", self.title);
        text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0, "middle", self.x);
        text(LEFT, TOP - 4.0, "start", self.y);
        text(LEFT - 8.0, y_of(0.0) + 4.0, "end", "0");
        for decade in 0..=decades as u32 {
            let value = 10_f64.powi(decade as i32);
            text(LEFT - 8.0, y_of(value) + 4.0, "end", &format!("{value}"));
        }
        let step = (x_most / 6.0).max(0.5).ceil();
        for tick in (0_u32..).map(|n| f64::from(n) * step).take_while(|x| *x <= x_most) {
            text(x_of(tick), HEIGHT - BOTTOM + 18.0, "middle", &format!("{tick}"));
        }
        for (at, point) in self.points.iter().enumerate() {
            // Neighbours are named by turns above and below, so that names do not lie on each other.
            let dy = if at % 2 == 0 { 4.0 } else { -6.0 };
            text(x_of(point.x) + 9.0, y_of(point.y) + dy, "start", &point.name);
        }
        let _ = writeln!(svg, "<path d=\"M{LEFT} {TOP}V{:.0}H{:.0}\" fill=\"none\" stroke=\"black\"/>", HEIGHT - BOTTOM, WIDTH - RIGHT);
        for point in self.points {
            let _ = writeln!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" fill=\"{}\"/>", x_of(point.x), y_of(point.y), point.colour);
        }
        svg + "</svg>\n"
    }
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_within_the_axes_and_words_are_escaped() {
        let points = [(0.0, 0.0, "a<b"), (12.5, 4_321.0, "far")].map(|(x, y, name)| Point { x, y, name: name.into(), colour: "black" });
        let svg = Plot { title: "t", x: "x", y: "y", points: &points }.to_svg();
        assert!(svg.contains("a&lt;b") && svg.ends_with("</svg>\n") && svg.matches("<circle").count() == 2);
        let centres = svg.lines().filter(|line| line.starts_with("<circle"));
        for line in centres {
            let number =
                |name: &str| line.split(name).nth(1).and_then(|rest| rest.split('"').nth(1)).and_then(|text| text.parse::<f64>().ok());
            assert!(number("cx=").is_some_and(|x| (LEFT..=WIDTH - RIGHT).contains(&x)));
            assert!(number("cy=").is_some_and(|y| (TOP..=HEIGHT - BOTTOM).contains(&y)));
        }
    }
}
