package interop;

import java.util.List;
import java.util.stream.Collectors;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.cloud.client.discovery.DiscoveryClient;
import org.springframework.cloud.client.loadbalancer.LoadBalanced;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.client.RestTemplate;

/** A service that tells its name, whom it discovers, and what another service answers through the load balancer. */
@SpringBootApplication
@RestController
public class Application {
    private final DiscoveryClient discovery;
    private final String name;
    private final RestTemplate balanced;

    Application(DiscoveryClient discovery, @Value("${spring.application.name}") String name, RestTemplate balanced) {
        this.discovery = discovery;
        this.name = name;
        this.balanced = balanced;
    }

    public static void main(String[] arguments) {
        SpringApplication.run(Application.class, arguments);
    }

    @GetMapping("/name")
    String name() {
        return name;
    }

    @GetMapping("/names")
    List<String> names() {
        return discovery.getServices().stream().sorted().collect(Collectors.toList());
    }

    @GetMapping("/discover/{service}")
    List<String> discover(@PathVariable String service) {
        return discovery.getInstances(service).stream()
                .map(instance -> instance.getHost() + ":" + instance.getPort() + " " + instance.getMetadata().getOrDefault("team", "none"))
                .sorted().collect(Collectors.toList());
    }

    @GetMapping("/call/{service}")
    String call(@PathVariable String service) {
        return balanced.getForObject("http://" + service + "/name", String.class);
    }

    @Configuration(proxyBeanMethods = false)
    static class Clients {
        @Bean
        @LoadBalanced
        RestTemplate balanced() {
            return new RestTemplate();
        }
    }
}
